// Command accuracy compares predictors on public data sets under the project's protocol: biases, matrix factorisation, LightGBM on the
// network's own features, and the network, all chosen on validation, refitted on training and validation records, and tested once.
//
//	make build && scripts/with-env go run ./bench/accuracy -python "$(bench/accuracy/setup.sh)" -seeds 5 DATA...
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"recpie/internal/evaluate"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
	"recpie/orchestrator"
	"recpie/prompts"
	"recpie/recommender"
)

func main() {
	reexec.Ensure()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	python := flag.String("python", "", "Python with numpy, scipy and lightgbm (bench/accuracy/setup.sh); empty leaves the peers out")
	seeds := flag.Int("seeds", 5, "networks and peers per set")
	out := flag.String("out", "", "folder that keeps results, so that an interrupted run continues; empty keeps none")
	sparse := flag.Bool("sparse", false, "records of users with fewer than five train too, for every system alike")
	rehearse := flag.Bool("rehearse", false, "judge on a rehearsal within the training and validation records; the test records are not looked at")
	flag.Parse()
	if flag.NArg() == 0 {
		return fmt.Errorf("no data set: name folders, as bench/accuracy -python PYTHON data/a data/b")
	}
	torch.SetThreads(1)
	dir := *out
	if dir == "" {
		tmp, err := os.MkdirTemp("", "accuracy-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	fmt.Println("test RMSE / MAE on ratings scaled to [0,1]; standard errors over seeds; difference in RMSE of the ensemble to each, clustered by user")
	for _, path := range flag.Args() {
		s := &set{dir: filepath.Join(dir, filepath.Base(path)), python: *python}
		if *sparse {
			s.dir += "-sparse"
		}
		if *rehearse {
			s.dir += "-rehearsal"
		}
		for k := range *seeds {
			s.seeds = append(s.seeds, int64(k+1))
		}
		if err := s.compare(ctx, orchestrator.DataSettings{Path: path, TrainSparse: *sparse, Rehearse: *rehearse, Seed: 1, Prompts: prompts.DefaultSettings()}); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// set is one data set with its results.
type set struct {
	dir    string
	python string
	seeds  []int64
	work   *orchestrator.Workspace
}

// row is one system of the table.
type row struct {
	name string
	test [][]float32 // [seed][test record]
}

func (s *set) compare(ctx context.Context, data orchestrator.DataSettings) (err error) {
	began := time.Now()
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	s.work, err = orchestrator.Prepare(ctx, data)
	if err != nil {
		return err
	}
	w := s.work
	rows := []row{{"biases", [][]float32{w.Final.Net.Bias.Predict(w.Data, w.Split.Test)}}}
	if s.python != "" {
		peers, err := s.peers(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, peers...)
	}
	lab := &orchestrator.Lab{Work: w, Settings: recommender.DefaultSettings(len(w.Split.Train)), Seeds: s.seeds, Dir: filepath.Join(s.dir, "networks")}
	if err := os.MkdirAll(lab.Dir, 0o755); err != nil {
		return err
	}
	res, err := lab.Judge(ctx, "no_explanations", nil)
	if err != nil {
		return err
	}
	rows = append(rows, row{"network", res.Test}, row{"network, ensemble", [][]float32{mean(res.Test)}})
	return s.print(filepath.Base(data.Path), rows, time.Since(began))
}

func mean(test [][]float32) []float32 {
	out := make([]float32, len(test[0]))
	for _, p := range test {
		for k, y := range p {
			out[k] += y / float32(len(test))
		}
	}
	return out
}

func (s *set) print(name string, rows []row, took time.Duration) error {
	w := s.work
	truth := w.Data.Labels(w.Split.Test)
	users := make([]int32, len(w.Split.Test))
	for k, r := range w.Split.Test {
		users[k] = w.Data.Records[r].User
	}
	fmt.Printf("\n%s: %d training, %d validation, %d test records, %s\n", name, len(w.Split.Train), len(w.Split.Val), len(w.Split.Test), took.Round(time.Second))
	best := rows[len(rows)-1].test[0]
	table := map[string]*evaluate.System{}
	for _, r := range rows {
		var per []evaluate.Metrics
		for _, p := range r.test {
			m, err := evaluate.Measure(p, truth)
			if err != nil {
				return err
			}
			per = append(per, m)
		}
		sum := evaluate.Summarise(per, nil)
		table[r.name] = sum
		p, err := evaluate.Compare(best, mean(r.test), truth, users)
		if err != nil {
			return err
		}
		fmt.Printf("  %-28s %.4f (%.4f) / %.4f   %+.4f (SE %.4f)\n", r.name, sum.RMSE, sum.RMSESE, sum.MAE, p.RMSE, p.SE)
	}
	b, err := json.MarshalIndent(table, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "table.json"), append(b, '\n'), 0o644)
}
