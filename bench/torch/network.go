package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/torch"
	"recpie/recommender"
	"recpie/recommender/bias"
)

// shape is a kind of data that the network is trained on.
type shape struct {
	name       string
	users      int
	per        func(rng *rand.Rand) int // records of a user
	textual    bool                     // explanations of 384 numbers on both sides
	threadsOne bool
}

// shapes are the kinds of data: the length of histories decides what the sequence block costs.
var shapes = []shape{
	{"40 records a user", 1500, func(*rand.Rand) int { return 40 }, false, false},
	{"40 records a user, one thread", 1500, func(*rand.Rand) int { return 40 }, false, true},
	{"40 records a user, with explanations", 1500, func(*rand.Rand) int { return 40 }, true, false},
	{"long tail, 2.7 records a user", 22000, func(rng *rand.Rand) int { return min(1+int(math.Pow(rng.Float64(), -.85)/2), 400) }, false, false},
}

// networks compares training and prediction of the recommender with network.py. Every number is the best of the turns.
func networks(w io.Writer, python, script string, turns int) error {
	fmt.Fprintf(w, "| case, best of %d turns | here, records/s | peer, records/s | wall, peer/here | here, CPU µs a record | peer, CPU µs | CPU, peer/here |\n|---|---|---|---|---|---|---|\n", turns)
	for _, sh := range shapes {
		if err := compareNetwork(w, sh, python, script, turns); err != nil {
			return fmt.Errorf("%s: %w", sh.name, err)
		}
	}
	return nil
}

// pass is one pass over all records.
type pass struct {
	records   int
	wall, cpu float64 // seconds
}

// better keeps the smaller wall and CPU time of two passes.
func (p pass) better(q pass) pass {
	if p.records == 0 {
		return q
	}
	return pass{q.records, min(p.wall, q.wall), min(p.cpu, q.cpu)}
}

func compareNetwork(w io.Writer, sh shape, python, script string, turns int) error {
	threads := runtime.NumCPU()
	if sh.threadsOne {
		threads = 1
	}
	torch.SetThreads(threads)
	in, err := sh.input()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "recpie-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	model, err := export(dir, in)
	if err != nil {
		return err
	}
	defer model.Close()
	var other *networkPeer
	if python != "" {
		if other, err = startNetworkPeer(python, script, dir, threads); err != nil {
			return err
		}
		defer other.stop()
	}
	var here, there [2]pass
	for range turns {
		train, err := trainPass(in)
		if err != nil {
			return err
		}
		predict, err := predictPass(model, in)
		if err != nil {
			return err
		}
		here = [2]pass{here[0].better(train), here[1].better(predict)}
		if other == nil {
			continue
		}
		for k, cmd := range [2][]string{{"train sparse", "train dense"}, {"predict dense"}} {
			for _, c := range cmd {
				p, err := other.ask(c)
				if err != nil {
					return err
				}
				there[k] = there[k].better(p)
			}
		}
	}
	for k, what := range [2]string{"training", "prediction"} {
		h, t := here[k], there[k]
		rate := func(p pass) float64 { return float64(p.records) / p.wall }
		micros := func(p pass) float64 { return p.cpu / float64(p.records) * 1e6 }
		fmt.Fprintf(w, "| %s: %s | %.0f | %.0f | %.2f | %.2f | %.2f | %.2f |\n", sh.name, what, rate(h), rate(t), rate(h)/rate(t), micros(h), micros(t), micros(t)/micros(h))
	}
	return nil
}

// input makes data of the shape: users who like or dislike categories, items of Zipf's popularity, everything in training.
func (sh shape) input() (recommender.Input, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	const items = 3000
	var its []dataset.Item
	for i := range items {
		its = append(its, dataset.Item{ID: strconv.Itoa(i), Title: "item " + strconv.Itoa(i%50), Categories: []string{strconv.Itoa(i % 12)}})
	}
	zipf := rand.NewZipf(rng, 1.1, 20, items-1)
	var events []dataset.Event
	for u := range sh.users {
		var taste [12]float64
		for c := range taste {
			taste[c] = .2 * rng.NormFloat64()
		}
		for k := range sh.per(rng) {
			i := int(zipf.Uint64())
			y := min(max(.6+taste[i%12]+.2*rng.NormFloat64(), 0), 1)
			events = append(events, dataset.Event{User: strconv.Itoa(u), Item: strconv.Itoa(i), Rating: 1 + 4*y, Time: int64(k) * 5000, HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New(sh.name, dataset.Spec{Min: 1, Max: 5, ItemInputs: []string{"title", "categories"}}, its, events)
	if err != nil {
		return recommender.Input{}, err
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{MinRecords: 2})
	if err != nil {
		return recommender.Input{}, err
	}
	data, err := recommender.NewData(context.Background(), split.FinalView(ds), bias.Regularisers{User: 5, Item: 5}, 1)
	if err != nil {
		return recommender.Input{}, err
	}
	in := recommender.Input{Data: data, Train: append(append([]int32{}, split.Train...), split.Val...), Settings: recommender.DefaultSettings(1 << 20), Seed: 1}
	if sh.textual {
		const dim, vectors = 384, 2000
		in.Expl = &recommender.Explanations{Vectors: &recommender.Vectors{Dim: dim, Data: make([]float32, vectors*dim)}}
		for k := range in.Expl.Vectors.Data {
			in.Expl.Vectors.Data[k] = float32(rng.NormFloat64())
		}
		for range ds.Records {
			in.Expl.Pos, in.Expl.Neg = append(in.Expl.Pos, int32(rng.IntN(vectors))), append(in.Expl.Neg, int32(rng.IntN(vectors)))
		}
	}
	return in, nil
}

// trainPass is the last of two epochs of a fit.
func trainPass(in recommender.Input) (p pass, err error) {
	var wall time.Time
	var cpu time.Duration
	in.Epochs = 2
	in.Progress = func(e recommender.Epoch) {
		now, used := time.Now(), time.Duration(0)
		if used, err = cpuTime(); err != nil {
			return
		}
		p = pass{len(in.Train), now.Sub(wall).Seconds(), (used - cpu).Seconds()}
		wall, cpu = now, used
	}
	m, _, fitErr := recommender.Fit(context.Background(), in)
	if fitErr != nil {
		return p, fitErr
	}
	m.Close()
	return p, err
}

func predictPass(m *recommender.Model, in recommender.Input) (pass, error) {
	start := time.Now()
	cpu, err := timed(func() error {
		_, err := m.Predict(context.Background(), in.Train, in.Expl)
		return err
	})
	return pass{len(in.Train), time.Since(start).Seconds(), cpu.Seconds()}, err
}

// export trains a model for an epoch and writes it for the peer, with the inputs and the predictions of all training records.
func export(dir string, in recommender.Input) (*recommender.Model, error) {
	in.Epochs = 1
	m, _, err := recommender.Fit(context.Background(), in)
	if err != nil {
		return nil, err
	}
	if err = writeInputs(dir, m, in); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func writeInputs(dir string, m *recommender.Model, in recommender.Input) error {
	if err := m.Save(filepath.Join(dir, "model")); err != nil {
		return err
	}
	p, err := m.Predict(context.Background(), in.Train, in.Expl)
	if err != nil {
		return err
	}
	view, ds := in.Data.View, in.Data.View.Dataset()
	around := in.Data.Text.Dim()
	var features, texts, base []float32
	var users, items, lengths, history, ratings, which []int64
	row := make([]float32, around)
	for _, r := range in.Train {
		rec := ds.Records[r]
		features = append(features, in.Data.Features.Row(r)...)
		in.Data.Text.Row(row, r)
		texts, base = append(texts, row...), append(base, in.Data.Bias.Base[r])
		users, items = append(users, int64(rec.User)+1), append(items, int64(rec.Item)+1)
		h := view.History(r)
		h = h[max(0, len(h)-in.Settings.History):]
		lengths = append(lengths, int64(len(h)))
		for j := range in.Settings.History {
			item, rating := int64(0), int64(0)
			if j < len(h) {
				past := h[len(h)-1-j]
				y, _ := view.Y(past)
				item, rating = int64(ds.Records[past].Item)+1, int64(math.Round(float64(y)*10))
			}
			history, ratings = append(history, item), append(ratings, rating)
		}
		if in.Expl != nil {
			which = append(which, int64(in.Expl.Pos[r]), int64(in.Expl.Neg[r]))
		}
	}
	arrays := map[string]any{"features.f32": features, "around.f32": texts, "base.f32": base, "labels.f32": ds.Labels(in.Train), "users.i64": users,
		"items.i64": items, "lengths.i64": lengths, "history.i64": history, "ratings.i64": ratings, "predictions.f32": p.Y}
	if in.Expl != nil {
		arrays["explanations.i64"], arrays["vectors.f32"] = which, in.Expl.Vectors.Data
	}
	for name, v := range arrays {
		b, err := binary.Append(nil, binary.LittleEndian, v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	sizes, err := json.Marshal(map[string]int{"records": len(in.Train), "features": len(in.Data.Features.Names), "around": around})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "sizes.json"), sizes, 0o600)
}

// networkPeer is network.py: it answers a command with records, wall and CPU seconds.
type networkPeer struct{ peer }

func startNetworkPeer(python, script, dir string, threads int) (*networkPeer, error) {
	cmd := exec.Command(python, script, dir)
	cmd.Stderr = os.Stderr
	if threads == 1 {
		cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &networkPeer{peer{cmd, in, bufio.NewReader(out)}}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("the peer did not start: %w", err)
	}
	fmt.Fprintln(os.Stderr, strings.TrimSpace(line))
	return p, nil
}

func (p *networkPeer) ask(command string) (pass, error) {
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		return pass{}, err
	}
	var a pass
	line, err := p.out.ReadString('\n')
	if err != nil {
		return pass{}, fmt.Errorf("the peer ended: %w", err)
	}
	_, err = fmt.Sscan(line, &a.records, &a.wall, &a.cpu)
	return a, err
}
