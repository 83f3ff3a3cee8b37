package lm

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"recpie/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// trained returns a trainer whose B matrices are not zero, so that every gradient is.
func trained(t testing.TB, b *Bundle, c LoRAConfig) *Trainer {
	t.Helper()
	tr, err := NewTrainer(b, c, TrainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, sp := range tr.specs {
		w := tr.params.Get(sp.name).F32View()
		for i := range w {
			w[i] += float32(rng.NormFloat64() * 0.1)
		}
	}
	return tr
}

// someData makes n data with soft rows and every kind of input; neighbours share beginnings and rows.
func someData(b *Bundle, n int, seed uint64) []Datum {
	rng := rand.New(rand.NewPCG(seed, 1))
	cfg := b.Model.Cfg
	shared, rows := randomIDs(rng, 60, cfg.VocabSize), randomRows(rng, 2*cfg.HiddenSize)
	out := make([]Datum, n)
	for i := range out {
		d := &out[i]
		d.Tokens = append(append(d.Tokens, shared...), randomIDs(rng, 4+3*i, cfg.VocabSize)...)
		d.EmbedPos, d.Embeds = []int64{2, 3}, rows
		for k := range d.Tokens {
			d.Targets = append(d.Targets, int64(rng.IntN(cfg.VocabSize)))
			w := float32(0)
			if k > 55 {
				w = float32(rng.NormFloat64())
			}
			d.Weights = append(d.Weights, w)
			d.Advantages = append(d.Advantages, w)
			d.Logprobs = append(d.Logprobs, float32(-3.6+0.1*rng.NormFloat64()))
		}
	}
	return out
}

func pass1(t testing.TB, tr *Trainer, data []Datum, loss string, cfg map[string]float64, forwardOnly bool) *PassResult {
	t.Helper()
	res, err := tr.ForwardBackward(t.Context(), data, loss, cfg, forwardOnly)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A pass that its memory cuts into parts returns and adds up the same as one that takes all data at once.
func TestPassInParts(t *testing.T) {
	defer func(n int) { passBytes = n }(passBytes)
	b := tiny(t, 7)
	data := someData(b, 9, 5)
	var soft, lora [4][]float32
	var lp [4][][]float32
	for i, how := range []struct{ bytes, workers int }{{1 << 30, 1}, {1, 1}, {1 << 30, 3}, {1 << 16, 2}} { // all at once; one by one; side by side
		passBytes = how.bytes
		tr := trained(t, b, LoRAConfig{Rank: 2, Alpha: 2, Attn: true, MLP: true})
		tr.opt.Workers = how.workers
		res := pass1(t, tr, data, "ppo", map[string]float64{cfgSharedGrads: 1}, false)
		lp[i], lora[i], soft[i] = res.Logprobs, slices.Concat(tr.grads...), make([]float32, len(data[0].Embeds))
		for _, g := range res.EmbedGrads {
			for j, v := range g {
				soft[i][j] += v
			}
		}
	}
	approx := cmp.Comparer(func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-4*(1+math.Abs(float64(b))) })
	for i := range lp {
		for what, pair := range map[string][2]any{"log probabilities": {lp[0], lp[i]}, "adapter's gradients": {lora[0], lora[i]}, "soft rows' gradients": {soft[0], soft[i]}} {
			if d := cmp.Diff(pair[0], pair[1], approx); d != "" {
				t.Errorf("way %d: %s: %s", i, what, d)
			}
		}
	}
}

// Gradients of adapter weights and soft rows against central differences of the loss.
func TestGradientsByFiniteDifferences(t *testing.T) {
	every(t, 7, func(t *testing.T, b *Bundle) {
		b.Model.Cfg.ExpertsPerTok = b.Model.Cfg.Experts // with fewer a small step may change the choice, and the loss jumps
		for _, loss := range []string{"cross_entropy", "importance_sampling", "ppo", "dro"} {
			t.Run(loss, func(t *testing.T) {
				tr := trained(t, b, LoRAConfig{Rank: 2, Alpha: 2, Attn: true, MLP: b.Model.Cfg.Experts == 0})
				data := someData(b, 3, 5)
				res := pass1(t, tr, data, loss, nil, false)
				at := func() float64 { return pass1(t, tr, data, loss, nil, true).Metrics["loss:sum"] }
				rng := rand.New(rand.NewPCG(9, 9))
				slope := func(x *float32, h float32) float64 {
					old := *x
					defer func() { *x = old }()
					*x = old + h
					up, high := at(), float64(*x)
					*x = old - h
					return (up - at()) / (high - float64(*x))
				}
				check := func(what string, x *float32, got float64) {
					t.Helper()
					want := (4*slope(x, 1e-2) - slope(x, 2e-2)) / 3 // the error of second order cancels
					if math.Abs(got-want) > 1e-3*max(1, math.Abs(want)) {
						t.Errorf("%s: gradient %.6g, differences give %.6g", what, got, want)
					}
				}
				for i, sp := range tr.specs {
					k := rng.IntN(len(tr.grads[i]))
					check(sp.name, &tr.params.Get(sp.name).F32View()[k], float64(tr.grads[i][k]))
				}
				for i := range data { // the rows are one slice for all data: give each its own before moving one
					data[i].Embeds = append([]float32(nil), data[i].Embeds...)
				}
				for range 4 {
					i, k := rng.IntN(len(data)), rng.IntN(len(data[0].Embeds))
					check("soft row", &data[i].Embeds[k], float64(res.EmbedGrads[i][k]))
				}
			})
		}
	})
}

// Shared prompt gradients must add up to the private ones, for the adapter too; so must one pass per datum.
func TestSharingDoesNotChangeGradients(t *testing.T) {
	every(t, 8, func(t *testing.T, b *Bundle) {
		data := someData(b, 4, 6)
		grads := func(run func(tr *Trainer) []float32) (sums []float32, lora [][]float32) {
			tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
			return run(tr), tr.grads
		}
		sum := func(g [][]float32) []float32 {
			out := make([]float32, len(g[0]))
			for _, row := range g {
				for i, v := range row {
					out[i] += v
				}
			}
			return out
		}
		want, wantLora := grads(func(tr *Trainer) []float32 {
			var all [][]float32
			for i := range data {
				all = append(all, pass1(t, tr, data[i:i+1], "ppo", nil, false).EmbedGrads...)
			}
			return sum(all)
		})
		for name, cfg := range map[string]map[string]float64{
			"private": nil, "shared": {cfgSharedGrads: 1}, "only weighted": {cfgOnlyWeighted: 1, cfgSharedGrads: 1},
		} {
			var computed float64
			got, lora := grads(func(tr *Trainer) []float32 {
				res := pass1(t, tr, data, "ppo", cfg, false)
				computed = res.Metrics["positions_computed:sum"] / res.Metrics["positions:sum"]
				return sum(res.EmbedGrads)
			})
			largest := func(all []float32) (top float64) {
				for _, v := range all {
					top = max(top, math.Abs(float64(v)))
				}
				return top
			}
			for i := range want {
				near(t, name+": soft gradient", float64(got[i]), float64(want[i]), max(1e-4, 5e-5*largest(want)))
			}
			for i := range wantLora {
				top := largest(wantLora[i])
				for j := range wantLora[i] {
					near(t, name+": adapter gradient", float64(lora[i][j]), float64(wantLora[i][j]), max(1e-4, 5e-5*top)) // the adapter is merged into the weight in long passes alone
				}
			}
			if (computed < 1) != (cfg != nil) { // soft rows of one's own share nothing behind them
				t.Errorf("%s: %.2f of the positions computed", name, computed)
			}
		}
		tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
		pass1(t, tr, data, "ppo", map[string]float64{cfgFreeze: 1}, false)
		if n := gradNorm(tr.grads); n != 0 {
			t.Errorf("a frozen adapter got a gradient of norm %g", n)
		}
	})
}

// PPO in closed form: at ratio 1 the derivative is −A; where the clipped branch is the smaller one it is 0.
func TestPPOLoss(t *testing.T) {
	f, err := newLoss("ppo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ratio, adv, value, slope float64 }{
		{1, 2, -2, -2}, {1, -2, 2, 2}, {1.1, 1, -1.1, -1.1}, {1.5, 1, -1.2, 0}, {0.5, 1, -0.5, -0.5},
		{0.5, -1, 0.8, 0}, {1.5, -1, 1.5, 1.5}, {1.5, 0, 0, 0},
	} {
		d := &Datum{Logprobs: []float32{-1}, Advantages: []float32{float32(c.adv)}}
		v, g := f(d, 0, -1+math.Log(c.ratio))
		near(t, "loss", v, c.value, 1e-6)
		near(t, "derivative", g, c.slope, 1e-6)
	}
	if _, err := newLoss("ppo", map[string]float64{"clip_low_threshold": 2}); err == nil {
		t.Error("thresholds out of order are accepted")
	}
	if _, err := newLoss("ppo", map[string]float64{"clip_lo": .8}); err == nil {
		t.Error("an unknown setting is accepted")
	}
	if _, err := newLoss("gspo", nil); err == nil {
		t.Error("an unknown loss is accepted")
	}
}

// One context, eight answers, reward for one of them: the policy must find it through sampling, ppo and optim_step alone.
func TestBanditLearns(t *testing.T) {
	b := tiny(t, 9)
	wte := b.Model.weight("wte.weight")
	good := 5 // its embedding is made the longest: the tied logits of so small a model cannot get sharp otherwise
	for i := range 16 {
		wte[good*16+i] *= 2.5
	}
	tr, err := NewTrainer(b, LoRAConfig{Rank: 4, Attn: true, Seed: 1}, TrainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	prob := 0.0
	for step := range 80 {
		context := []int32{1, 2, 3}
		var all []Datum
		for id := range int64(b.Model.Cfg.VocabSize) {
			all = append(all, Datum{Tokens: context, Targets: []int64{0, 0, id}})
		}
		lp := pass1(t, tr, all, "cross_entropy", nil, true).Logprobs
		prob = math.Exp(float64(lp[good][2]))
		if step == 0 && prob > .5 {
			t.Fatalf("the good answer is likely from the start: %.2f", prob)
		}
		if prob > .9 {
			t.Logf("probability of answer %d: %.2f after %d steps", good, prob, step)
			return
		}
		line := make([]float32, len(lp))
		for id := range lp {
			line[id] = lp[id][2]
		}
		draw := newSampler(&GenRequest{Temperature: 1}, int64(rng.Uint64()), 0)
		var data []Datum
		for range 64 {
			id, _ := draw.pick(line, make([]float32, len(line)), nil)
			adv := float32(-prob)
			if int(id) == good {
				adv = float32(1 - prob)
			}
			data = append(data, Datum{Tokens: context, Targets: []int64{0, 0, int64(id)}, Logprobs: []float32{0, 0, line[id]},
				Advantages: []float32{0, 0, adv / 8}})
		}
		for range 2 {
			pass1(t, tr, data, "ppo", map[string]float64{cfgOnlyWeighted: 1}, false)
			if _, err := tr.OptimStep(AdamParams{LearningRate: 0.01, Beta1: .9, Beta2: .95, Eps: 1e-8}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Errorf("probability of the good answer is %.3f after 80 steps, want > .9", prob)
}

// The trainer and the sampler must agree on every log probability for the same adapter, soft rows included.
func TestTrainerAgreesWithSampler(t *testing.T) {
	every(t, 10, func(t *testing.T, b *Bundle) {
		tr := trained(t, b, LoRAConfig{Rank: 3, Attn: true, MLP: b.Model.Cfg.Experts == 0})
		dir := filepath.Join(t.TempDir(), "a1")
		if err := tr.Save(dir, false); err != nil {
			t.Fatal(err)
		}
		e := engine(t, b, EngineOptions{})
		if err := e.LoadAdapter("a1", dir); err != nil {
			t.Fatal(err)
		}
		rs := requests(b, 8, func(_ int, r *GenRequest) { r.Adapter = "a1" })
		worst, base := 0.0, 0.0
		for i, res := range together(t, e, rs) {
			for _, c := range res.Choices {
				d := Datum{}
				for _, id := range append(append([]int32(nil), rs[i].Prompt...), c.Tokens...) {
					if int(id) == b.Model.Cfg.VocabSize {
						id = 0 // any placeholder
					}
					d.Tokens = append(d.Tokens, id)
				}
				for _, s := range rs[i].Soft {
					d.EmbedPos, d.Embeds = []int64{1, 2}, s.Data
				}
				for _, id := range d.Tokens[1:] {
					d.Targets = append(d.Targets, int64(id))
				}
				d.Tokens = d.Tokens[:len(d.Tokens)-1]
				lp := pass1(t, tr, []Datum{d}, "cross_entropy", nil, true).Logprobs[0]
				fresh, err := NewTrainer(b, LoRAConfig{Rank: 3, Attn: true}, TrainerOptions{})
				if err != nil {
					t.Fatal(err)
				}
				plain := pass1(t, fresh, []Datum{d}, "cross_entropy", nil, true).Logprobs[0]
				fresh.Close()
				for k := range c.Tokens {
					at := len(rs[i].Prompt) - 1 + k
					worst = max(worst, math.Abs(float64(lp[at]-c.Logprobs[k])))
					base = max(base, math.Abs(float64(plain[at]-c.Logprobs[k])))
				}
			}
		}
		if worst > 1e-4 || base < 1e-2 {
			t.Errorf("trainer and sampler differ by %g (limit 1e-4); without the adapter by %g", worst, base)
		}
	})
}

func step(t testing.TB, tr *Trainer, data []Datum) {
	t.Helper()
	pass1(t, tr, data, "cross_entropy", nil, false)
	if _, err := tr.OptimStep(AdamParams{LearningRate: 1e-2, Beta1: .9, Beta2: .95, Eps: 1e-12, WeightDecay: .01, GradClipNorm: 1}); err != nil {
		t.Fatal(err)
	}
}

// Training that is saved, loaded elsewhere and continued must give the same bits as training that went on.
func TestResumeIsBitEqual(t *testing.T) {
	every(t, 11, func(t *testing.T, b *Bundle) {
		cfg := LoRAConfig{Rank: 2, Attn: true, Seed: 5}
		a, err := NewTrainer(b, cfg, TrainerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		data := someData(b, 3, 8)
		step(t, a, data)
		dir := filepath.Join(t.TempDir(), "ckpt")
		if err := a.Save(dir, true); err != nil {
			t.Fatal(err)
		}
		if err := a.Save(dir, true); err == nil {
			t.Error("a checkpoint was overwritten")
		}
		step(t, a, data)
		got, err := readPEFTConfig(dir, b.Model.Cfg)
		if err != nil {
			t.Fatal(err)
		}
		got.Seed = 99
		c, err := NewTrainer(b, got, TrainerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		pass1(t, c, data, "cross_entropy", nil, false) // left-over gradients must not survive the load
		if err := c.Load(dir, true); err != nil {
			t.Fatal(err)
		}
		step(t, c, data)
		if d := cmp.Diff(a.params.Snapshot(), c.params.Snapshot()); d != "" {
			t.Error("weights differ after resuming")
		}
		if a.adam.step != 2 || !cmp.Equal(a.adam.m, c.adam.m) || !cmp.Equal(a.adam.v, c.adam.v) {
			t.Error("moments differ after resuming")
		}
		if err := c.Load(dir, false); err != nil || c.adam.step != 0 {
			t.Errorf("loading without the optimizer: %v, step %d", err, c.adam.step)
		}
	})
}

func TestTrainerRefusals(t *testing.T) {
	b := tiny(t, 12)
	for name, c := range map[string]LoRAConfig{
		"unembed": {Rank: 2, Attn: true, Unembed: true}, "no target": {Rank: 2}, "rank": {Attn: true},
	} {
		if tr, err := NewTrainer(b, c, TrainerOptions{}); err == nil {
			tr.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
	ok := Datum{Tokens: []int32{1, 2}, Targets: []int64{2, 3}}
	for name, change := range map[string]func(*Datum){
		"targets":  func(d *Datum) { d.Targets = d.Targets[:1] },
		"token":    func(d *Datum) { d.Tokens = []int32{1, 37} },
		"target":   func(d *Datum) { d.Targets = []int64{1, -1} },
		"weights":  func(d *Datum) { d.Weights = []float32{1} },
		"NaN":      func(d *Datum) { d.Weights = []float32{1, float32(math.NaN())} },
		"embeds":   func(d *Datum) { d.EmbedPos = []int64{0} },
		"position": func(d *Datum) { d.EmbedPos, d.Embeds = []int64{2}, make([]float32, 16) },
		"twice":    func(d *Datum) { d.EmbedPos, d.Embeds = []int64{1, 1}, make([]float32, 32) },
		"empty":    func(d *Datum) { *d = Datum{} },
	} {
		d := ok
		change(&d)
		if _, err := tr.ForwardBackward(t.Context(), []Datum{ok, d}, "cross_entropy", nil, false); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tr.ForwardBackward(t.Context(), []Datum{ok}, "ppo", nil, false); err == nil {
		t.Error("ppo without advantages is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.ForwardBackward(ctx, []Datum{ok}, "cross_entropy", nil, false); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if gradNorm(tr.grads) != 0 {
		t.Error("a refused pass left a gradient")
	}
}

func TestAdapterFoldersAreCheckedStrictly(t *testing.T) {
	b := tiny(t, 13)
	e := engine(t, b, EngineOptions{})
	tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
	root := t.TempDir()
	good := filepath.Join(root, "good")
	if err := tr.Save(good, false); err != nil {
		t.Fatal(err)
	}
	write := func(name string, c LoRAConfig, change func(sp []spec, data [][]float32) ([]spec, [][]float32)) string {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		sp := loraSpecs(b.Model.Cfg, c)
		sp, data := change(sp, initialLoRA(sp, 1))
		if err := writeAdapter(dir, "x", b.Model.Cfg, c, sp, data); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	c := LoRAConfig{Rank: 2, Alpha: 32, Attn: true}
	bad := []string{
		write("short", c, func(sp []spec, d [][]float32) ([]spec, [][]float32) { return sp[1:], d[1:] }),
		write("undersized", c, func(sp []spec, d [][]float32) ([]spec, [][]float32) {
			sp[0].shape, d[0] = []int64{2, 8}, d[0][:16]
			return sp, d
		}),
		write("renamed", c, func(sp []spec, d [][]float32) ([]spec, [][]float32) { sp[0].name = "h.0.q"; return sp, d }),
		write("infinite", c, func(sp []spec, d [][]float32) ([]spec, [][]float32) { d[1][0] = float32(math.Inf(1)); return sp, d }),
		filepath.Join(root, "missing"),
	}
	for _, dir := range bad {
		if err := e.LoadAdapter("x", dir); err == nil {
			t.Errorf("%s: accepted", filepath.Base(dir))
		}
	}
	if err := e.LoadAdapter("x", good); err != nil {
		t.Fatal(err)
	}
	if err := e.LoadAdapter("x", good); !errors.Is(err, ErrAdapterExists) {
		t.Errorf("a second adapter of the same name: %v", err)
	}
	if got := e.Adapters(); len(got) != 1 || got[0].Rank != 2 {
		t.Errorf("adapters %+v", got)
	}
	r := &GenRequest{Prompt: []int32{1, 2, 3}, MaxTokens: 5, Logprobs: 0, PromptLogprobs: -1}
	base := generate(t, e, r)
	r.Adapter = "x"
	with := generate(t, e, r)
	if cmp.Equal(base.Choices[0].Logprobs, with.Choices[0].Logprobs) {
		t.Error("the adapter changes nothing")
	}
	if err := e.UnloadAdapter("x"); err != nil {
		t.Fatal(err)
	}
	if err := e.UnloadAdapter("x"); !errors.Is(err, ErrUnknownAdapter) {
		t.Errorf("unloaded twice: %v", err)
	}
}

// The scheme of AdamW, two steps by hand.
func TestAdamWStep(t *testing.T) {
	a := newAdamState([]int{1})
	w := [][]float32{{1}}
	p := AdamParams{LearningRate: .1, Beta1: .9, Beta2: .99, Eps: 1e-8, WeightDecay: .5}
	if n := a.update(w, [][]float32{{3}}, p, nil); n != 3 {
		t.Errorf("norm %g", n)
	}
	near(t, "first step", float64(w[0][0]), 1*.95-.1, 1e-6) // m̂/√v̂ is the sign
	p.GradClipNorm = 1
	a.update(w, [][]float32{{-3}}, p, nil)
	m, v := (.9*.3-.1)/(1-.81), (.99*.09+.01)/(1-.99*.99)
	near(t, "second step", float64(w[0][0]), .85*.95-.1*m/math.Sqrt(v), 1e-6)
}
