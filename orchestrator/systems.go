package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/durable"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/prompts"
	"recpie/recommender"
)

// Embedder turns texts into vectors of one length.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Lab fits and judges networks, all with the same budget: early stopping on validation, a refit on training and validation records
// for the epochs so chosen, test predictions; once per seed.
type Lab struct {
	Work     *Workspace
	Settings recommender.Settings
	Seeds    []int64
	Ranker   *Ranker                     // nil: how networks rank items is not measured
	Dir      string                      // results are kept here, so that an interrupted run does not fit twice; "" keeps none
	Progress func(name string, seed int) // optional
}

// Result is one system's predictions, seed after seed.
type Result struct {
	Name   string           `json:"name"`
	Digest string           `json:"digest"`
	Val    []float64        `json:"validation_rmse"` // per seed
	Epochs []int            `json:"epochs"`          // per seed, chosen on validation
	Test   [][]float32      `json:"test"`            // [seed][test record]
	SD     [][]float32      `json:"sd,omitempty"`    // [seed][test record], standard deviation of the error to expect
	ValY   [][]float32      `json:"validation"`      // [seed][validation record], by the network that has not seen them
	ValSD  [][]float32      `json:"validation_sd,omitempty"`
	Ranks  []ranks          `json:"ranks,omitempty"` // by seed, where ranking is measured
	Alpha  [][6]float32     `json:"attention"`       // of the first seed, per test record: pos, neg, consumer, product, sequence, context
	Model  string           `json:"model,omitempty"` // folder of the first seed's network
	System *evaluate.System `json:"system"`
}

// Judge fits the network on explanations (nil: without the two inputs) and measures it.
func (l *Lab) Judge(ctx context.Context, name string, expl *recommender.Explanations) (*Result, error) {
	res := &Result{Name: name, Digest: l.digest(name, expl)}
	file := filepath.Join(l.Dir, name+".json")
	if l.Dir != "" {
		b, err := os.ReadFile(file)
		if err == nil {
			var old Result
			if err := json.Unmarshal(b, &old); err == nil && old.Digest == res.Digest {
				return &old, nil
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fault.New(fault.Fatal, "networks", err)
		}
	}
	n := len(l.Seeds)
	res.Val, res.Epochs, res.Test, res.SD = make([]float64, n), make([]int, n), make([][]float32, n), make([][]float32, n)
	res.ValY, res.ValSD = make([][]float32, n), make([][]float32, n)
	if l.Ranker.ranksBy(name) {
		res.Ranks = make([]ranks, n)
	}
	perSeed := make([]evaluate.Metrics, n)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0)) // every fit has its own generator: seeds give the same networks in any order
	for i, seed := range l.Seeds {
		g.Go(func() error {
			if l.Progress != nil {
				l.Progress(name, i)
			}
			if err := l.judge(gctx, res, expl, i); err != nil {
				return fmt.Errorf("%s, seed %d: %w", name, seed, err)
			}
			var err error
			perSeed[i], err = evaluate.Measure(res.Test[i], l.Work.Data.Labels(l.Work.Split.Test))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	res.System = evaluate.Summarise(perSeed, res.Val)
	if l.Dir == "" {
		return res, nil
	}
	b, err := json.Marshal(res)
	if err != nil {
		return nil, err
	}
	return res, durable.WriteFile(file, b, 0o644)
}

// judge fits and tests the network of the i-th seed.
func (l *Lab) judge(ctx context.Context, res *Result, expl *recommender.Explanations, i int) error {
	split, seed := l.Work.Split, l.Seeds[i]
	both := slices.Concat(split.Train, split.Val)
	slices.Sort(both)
	chosen, log, err := recommender.Fit(ctx, recommender.Input{Data: l.Work.Train.Net, Train: split.Train, Val: split.Val, Expl: expl, Settings: l.Settings, Seed: seed})
	if err != nil {
		return err
	}
	v, err := chosen.Predict(ctx, split.Val, expl)
	chosen.Close()
	if err != nil {
		return err
	}
	res.ValY[i], res.ValSD[i] = v.Y, v.SD
	final, _, err := recommender.Fit(ctx, recommender.Input{Data: l.Work.Final.Net, Train: both, Expl: expl, Settings: l.Settings, Seed: seed, Epochs: log.Best, SDScale: log.SDScale})
	if err != nil {
		return err
	}
	defer final.Close()
	p, err := final.Predict(ctx, split.Test, expl)
	if err != nil {
		return err
	}
	res.Val[i], res.Epochs[i], res.Test[i], res.SD[i] = log.ValRMSE, log.Best, p.Y, p.SD
	if res.Ranks != nil {
		if res.Ranks[i], err = l.Ranker.rank(ctx, res.Name, final); err != nil {
			return err
		}
	}
	if i > 0 {
		return nil
	}
	res.Alpha = p.Attention
	if l.Dir == "" {
		return nil
	}
	res.Model = filepath.Join(l.Dir, res.Name+"-"+res.Digest[:12])
	if _, err := os.Stat(res.Model); err == nil {
		return nil // saved before the run was interrupted: the same fit gives the same network
	}
	return final.Save(res.Model)
}

// Compare tests system a against b on the test records of all seeds, clustered by user.
func (l *Lab) Compare(a, b *Result) (evaluate.Paired, error) {
	return l.compare(a.Test, b.Test)
}

// CompareBiases tests a system against the bias model.
func (l *Lab) CompareBiases(a *Result) (evaluate.Paired, error) {
	base := l.Work.Final.Net.Bias.Predict(l.Work.Data, l.Work.Split.Test)
	var bs [][]float32
	for range a.Test {
		bs = append(bs, base)
	}
	return l.compare(a.Test, bs)
}

func (l *Lab) compare(a, b [][]float32) (evaluate.Paired, error) {
	n := min(len(a), len(b))
	return evaluate.CompareAll(a[:n], b[:n], l.Work.Data.Labels(l.Work.Split.Test), l.testUsers(), l.Seeds[0])
}

// testUsers lists the user of each test record.
func (l *Lab) testUsers() []int32 {
	users := make([]int32, len(l.Work.Split.Test))
	for k, r := range l.Work.Split.Test {
		users[k] = l.Work.Data.Records[r].User
	}
	return users
}

// digest covers everything a result depends on.
func (l *Lab) digest(name string, expl *recommender.Explanations) string {
	h := sha256.New()
	s, _ := json.Marshal(l.Settings) // plain numbers always marshal
	if l.Ranker.ranksBy(name) {
		fmt.Fprintln(h, "ranks", l.Ranker.Lists.Digest, l.Ranker.settings.Explained)
	}
	fmt.Fprintln(h, "recpie system 3", l.Work.Split.Digest, l.Work.Train.View.Digest(), l.Work.Final.View.Digest(), l.Seeds, string(s))
	if expl != nil {
		_ = binary.Write(h, binary.LittleEndian, expl.Pos)
		_ = binary.Write(h, binary.LittleEndian, expl.Neg)
		_ = binary.Write(h, binary.LittleEndian, expl.Vectors.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// embedAtOnce is how many sentences an Embedder gets in one call.
const embedAtOnce = 1 << 16

// vectorise embeds the distinct sentences and says which records they belong to.
func vectorise(ctx context.Context, enc Embedder, ds *dataset.Dataset, e *Explained) (*recommender.Explanations, error) {
	index := map[string]int32{}
	var texts []string
	for pol := range e.Text {
		for _, s := range e.Text[pol] {
			if _, ok := index[s]; !ok && s != "" {
				index[s] = int32(len(texts))
				texts = append(texts, s)
			}
		}
	}
	if len(texts) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "explanations", "the model wrote no usable sentence"), "look at the raw column of explanations.db; a small model may need more warm-up steps")
	}
	out := blank(ds)
	out.Vectors = &recommender.Vectors{}
	for part := range slices.Chunk(texts, embedAtOnce) { // never all vectors twice
		vecs, err := enc.Embed(ctx, part)
		if err != nil {
			return nil, err
		}
		if out.Vectors.Dim == 0 {
			out.Vectors.Dim = len(vecs[0])
			out.Vectors.Data = make([]float32, 0, len(texts)*len(vecs[0]))
		}
		for _, v := range vecs {
			out.Vectors.Data = append(out.Vectors.Data, v...)
		}
	}
	for i, r := range e.Recs {
		if s := e.Text[prompts.Positive][i]; s != "" {
			out.Pos[r] = index[s]
		}
		if s := e.Text[prompts.Negative][i]; s != "" {
			out.Neg[r] = index[s]
		}
	}
	return out, nil
}

// blank has no explanation for any record.
func blank(ds *dataset.Dataset) *recommender.Explanations {
	out := &recommender.Explanations{Pos: make([]int32, len(ds.Records)), Neg: make([]int32, len(ds.Records))}
	for r := range out.Pos {
		out.Pos[r], out.Neg[r] = -1, -1
	}
	return out
}

// blanked takes the explanations away and keeps the vectors' dimension.
func blanked(ds *dataset.Dataset, e *recommender.Explanations) *recommender.Explanations {
	out := blank(ds)
	out.Vectors = e.Vectors
	return out
}

// shuffled permutes the explanations among the records of each part (train, validation, test), both sentences of a pair together.
func shuffled(e *recommender.Explanations, split *dataset.Split, seed int64) *recommender.Explanations {
	out := &recommender.Explanations{Pos: slices.Clone(e.Pos), Neg: slices.Clone(e.Neg), Vectors: e.Vectors}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x5417))
	for _, part := range [][]int32{split.Train, split.Val, split.Test} {
		for i, j := range rng.Perm(len(part)) {
			out.Pos[part[i]], out.Neg[part[i]] = e.Pos[part[j]], e.Neg[part[j]]
		}
	}
	return out
}

// numbers replaces each sentence by its content as numbers. Terms are matched by name between the two sides.
func numbers(w *Workspace, e *Explained) *recommender.Explanations {
	index := map[string]int{}
	for _, side := range []*Side{&w.Train, &w.Final} {
		for _, name := range side.Terms.Names() {
			if _, ok := index[name]; !ok {
				index[name] = len(index)
			}
		}
	}
	out := blank(w.Data)
	out.Vectors = &recommender.Vectors{Dim: max(1, 3*len(index))}
	for i, r := range e.Recs {
		side := w.SideOf(r)
		for pol, to := range [2][]int32{out.Pos, out.Neg} {
			s := e.Text[pol][i]
			if s == "" {
				continue
			}
			vec := make([]float32, out.Vectors.Dim)
			content := side.Renderer.Numbers(s)
			for t, name := range side.Terms.Names() {
				copy(vec[3*index[name]:3*index[name]+3], content[3*t:3*t+3])
			}
			to[r] = int32(out.Vectors.Len())
			out.Vectors.Data = append(out.Vectors.Data, vec...)
		}
	}
	return out
}

// heuristic writes the fixed best-three and worst-three sentences.
func heuristic(w *Workspace, recs []int32) *Explained {
	e := &Explained{Recs: recs, Text: [2][]string{make([]string, len(recs)), make([]string, len(recs))}, Rejected: map[string]int{}}
	for i, r := range recs {
		for _, pol := range prompts.Polarities {
			e.Text[pol][i] = w.SideOf(r).Renderer.Heuristic(r, pol)
		}
	}
	return e
}
