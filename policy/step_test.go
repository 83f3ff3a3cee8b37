package policy

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"recpie/internal/fault"
)

// softmaxTrainer is a training server whose model is a table: logits[context][template], one context token in, one template token out.
// It computes the clipped surrogate and its gradient as the training API defines them, and takes Adam steps.
type softmaxTrainer struct {
	logits, grad, m, v [][]float64
	t                  int
	lr                 float64
	softGrad           func(d Datum) []float32 // what to return for the soft rows
	calls              int
	poison             func(*Pass)
}

func newTable(contexts, templates int, lr float64) *softmaxTrainer {
	s := &softmaxTrainer{lr: lr}
	for _, p := range []*[][]float64{&s.logits, &s.grad, &s.m, &s.v} {
		for range contexts {
			*p = append(*p, make([]float64, templates))
		}
	}
	return s
}

func (s *softmaxTrainer) probs(ctx int) []float64 {
	out, sum := make([]float64, len(s.logits[ctx])), 0.0
	for i, l := range s.logits[ctx] {
		out[i] = math.Exp(l)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

func (s *softmaxTrainer) ForwardBackward(_ context.Context, data []Datum, loss string, cfg map[string]float64) (*Pass, error) {
	s.calls++
	if loss != "ppo" {
		return nil, errors.New("loss " + loss)
	}
	out := &Pass{}
	for _, d := range data {
		lps := make([]float32, len(d.Targets))
		for i, target := range d.Targets {
			if int(d.Tokens[i]) >= len(s.logits) || int(target) >= len(s.logits[0]) {
				continue // a prompt position of the soft-row tests
			}
			p := s.probs(int(d.Tokens[i]))
			lp := math.Log(p[target])
			lps[i] = float32(lp)
			a := float64(d.Advantages[i])
			w := math.Exp(lp - float64(d.Logprobs[i]))
			cut := math.Max(cfg["clip_low_threshold"], math.Min(cfg["clip_high_threshold"], w))
			out.LossSum -= math.Min(w*a, cut*a)
			if w*a > cut*a { // the clipped branch is the smaller one: flat
				continue
			}
			for j := range p {
				ind := 0.0
				if j == int(target) {
					ind = 1
				}
				s.grad[d.Tokens[i]][j] -= a * w * (ind - p[j])
			}
		}
		out.Logprobs = append(out.Logprobs, lps)
		var g []float32
		if s.softGrad != nil {
			g = s.softGrad(d)
		}
		out.EmbedGrads = append(out.EmbedGrads, g)
	}
	if s.poison != nil {
		s.poison(out)
	}
	return out, nil
}

func (s *softmaxTrainer) OptimStep(context.Context, AdamStep) error {
	s.t++
	for c := range s.grad {
		for j, g := range s.grad[c] {
			s.m[c][j] = .9*s.m[c][j] + .1*g
			s.v[c][j] = .999*s.v[c][j] + .001*g*g
			s.logits[c][j] -= s.lr * s.m[c][j] / (1 - math.Pow(.9, float64(s.t))) / (math.Sqrt(s.v[c][j]/(1-math.Pow(.999, float64(s.t)))) + 1e-8)
			s.grad[c][j] = 0
		}
	}
	return nil
}

func (s *softmaxTrainer) sample(rng *rand.Rand, ctx int) (token int32, logprob float32) {
	u, p := rng.Float64(), s.probs(ctx)
	for i, q := range p {
		if u -= q; u < 0 || i == len(p)-1 {
			return int32(i), float32(math.Log(q))
		}
	}
	return 0, 0
}

func tableSettings() Settings {
	s := DefaultSettings()
	s.VocabSize, s.Seed = 16, 1
	s.Limits = Limits{}
	return s
}

// The loop end to end on four contexts and four templates: y ~ U(0,1), the recommender is right (± .05) when the template matches the context
// and guesses .5 (± .1) otherwise. PPO must find the matching template from rewards alone.
func TestToyLoopLearnsTheMatchingTemplate(t *testing.T) {
	ref := math.Log(.25)
	for seed := range uint64(2) {
		table, set := newTable(4, 4, .05), tableSettings()
		set.TargetKL = 0
		o, err := NewOptimizer(set, table, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 7))
		var first, last float64
		const steps = 120
		for step := range steps {
			groups := make([]Group, 16)
			for g := range groups {
				ctx, y := rng.IntN(4), rng.Float64()
				for range 4 {
					token, lp := table.sample(rng, ctx)
					f := .5 + rng.NormFloat64()*.1
					if int(token) == ctx {
						f = y + rng.NormFloat64()*.05
					}
					r, err := Reward(y, f)
					if err != nil {
						t.Fatal(err)
					}
					groups[g].Texts = append(groups[g].Texts, Text{
						Prompt: []int32{int32(ctx)}, Tokens: []int32{token}, Logprobs: []float32{lp}, Ref: []float32{float32(ref)}, Reward: r,
					})
				}
			}
			m, err := o.Step(context.Background(), groups)
			if err != nil {
				t.Fatal(err)
			}
			if step < 5 {
				first += m.Reward / 5
			}
			if step >= steps-5 {
				last += m.Reward / 5
			}
		}
		if last-first < .05 {
			t.Errorf("seed %d: reward %.3f → %.3f, want a gain of .05", seed, first, last)
		}
		for ctx := range 4 {
			if p := table.probs(ctx)[ctx]; p <= .9 {
				t.Errorf("seed %d: matching template of context %d has probability %.3f", seed, ctx, p)
			}
		}
	}
}

// With β large the KL term outweighs any reward and brings a policy that has left the reference back to it.
func TestLargeBetaReturnsToTheReference(t *testing.T) {
	table, set := newTable(1, 4, .02), tableSettings()
	table.logits[0] = []float64{2, 0, -1, 0}
	set.Beta, set.TargetKL = 100, 0
	o, err := NewOptimizer(set, table, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 150 {
		groups := make([]Group, 16)
		for g := range groups {
			for range 4 {
				token, lp := table.sample(rng, 0)
				groups[g].Texts = append(groups[g].Texts, Text{
					Prompt: []int32{0}, Tokens: []int32{token}, Logprobs: []float32{lp}, Ref: []float32{float32(math.Log(.25))}, Reward: float64(token),
				})
			}
		}
		if _, err := o.Step(context.Background(), groups); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range table.probs(0) {
		if math.Abs(p-.25) > .05 {
			t.Errorf("template %d has probability %.3f, the reference .25", i, p)
		}
	}
}

// At w = 1 the gradient of the data that we build is −A∇log π; where the surrogate is clipped it is zero.
func TestSurrogateGradient(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, adv float64 // old logprob relative to the present one
		flat     bool
	}{
		{"w=1, good", 0, 1, false}, {"w=1, bad", 0, -1, false},
		{"good and already likelier", -.5, 1, true}, {"bad and already rarer", .5, -1, true},
		{"good but rarer", .5, 1, false}, {"bad but likelier", -.5, -1, false},
	} {
		table := newTable(1, 3, .1)
		table.logits[0] = []float64{.3, -.2, .1}
		p := table.probs(0)
		lp := math.Log(p[1])
		d, err := newDatum(Text{Prompt: []int32{0}, Tokens: []int32{1}, Logprobs: []float32{float32(lp + c.old)}}, []float64{c.adv}, 0, 16, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.ForwardBackward(context.Background(), []Datum{d}, "ppo", map[string]float64{"clip_low_threshold": .8, "clip_high_threshold": 1.2}); err != nil {
			t.Fatal(err)
		}
		for j, g := range table.grad[0] {
			want := 0.0
			if !c.flat {
				ind := 0.0
				if j == 1 {
					ind = 1
				}
				want = -c.adv * math.Exp(-c.old) * (ind - p[j])
			}
			if math.Abs(g-want) > 1e-6 {
				t.Errorf("%s: gradient %d is %v, want %v", c.name, j, g, want)
			}
		}
	}
}

func TestDatumKeepsTheSamplersIDs(t *testing.T) {
	text := Text{Prompt: []int32{3, 16, 16, 5}, Tokens: []int32{7, 2}, Logprobs: []float32{-1, -2}}
	d, err := newDatum(text, []float64{.5, .25}, 2, 16, 9)
	if err != nil {
		t.Fatal(err)
	}
	want := Datum{
		Tokens: []int32{3, 9, 9, 5, 7}, Targets: []int64{9, 9, 5, 7, 2}, Logprobs: []float32{0, 0, 0, -1, -2},
		Advantages: []float32{0, 0, 0, .5, .25}, EmbedPos: []int64{1, 2},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v\nwant %+v", d, want)
	}
	if text.Prompt[1] != 16 {
		t.Error("the sampler's prompt was overwritten")
	}
	for name, bad := range map[string]Text{
		"marker among new tokens": {Prompt: []int32{1, 16, 16}, Tokens: []int32{16}, Logprobs: []float32{-1}},
		"one marker too few":      {Prompt: []int32{1, 16}, Tokens: []int32{1}, Logprobs: []float32{-1}},
		"negative id":             {Prompt: []int32{-1, 16, 16}, Tokens: []int32{1}, Logprobs: []float32{-1}},
		"no prompt":               {Tokens: []int32{1}, Logprobs: []float32{-1}},
	} {
		if _, err := newDatum(bad, []float64{1}, 2, 16, 9); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("%s: err = %v, want an item error", name, err)
		}
	}
}

func sampleGroups(n int) []Group {
	groups := make([]Group, n)
	for g := range groups {
		groups[g] = Group{Consumer: []float32{.5, -float32(g) / 10, 1}, Features: []float64{float64(g)}}
		for k := range 4 {
			groups[g].Texts = append(groups[g].Texts, Text{
				Prompt: []int32{0, 16, 16, 1}, Tokens: []int32{int32(k)}, Logprobs: []float32{float32(math.Log(.25))}, Ref: []float32{float32(math.Log(.25))},
				Reward: .5 + float64((g*7+k*3)%5)/10, Sentence: "The user watched this movie.",
			})
		}
	}
	return groups
}

func softOptimizer(t *testing.T, table *softmaxTrainer) *Optimizer {
	t.Helper()
	table.softGrad = func(d Datum) []float32 { // depends on the rows, so that a wrong restore shows
		g := make([]float32, len(d.Embeds))
		for i, x := range d.Embeds {
			g[i] = x*d.Advantages[len(d.Advantages)-1] + .01
		}
		return g
	}
	p, err := NewProjection(2, 4, 3, 1.5, 11)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCritic(1, .1)
	if err != nil {
		t.Fatal(err)
	}
	set := tableSettings()
	set.Placeholder, set.Minibatch = 15, 8
	o, err := NewOptimizer(set, table, p, c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Step, save, step again: a second optimizer restored from the saved state makes the same second step, bit for bit.
func TestRestoreContinuesBitForBit(t *testing.T) {
	a := softOptimizer(t, newTable(2, 4, 0))
	if _, err := a.Step(context.Background(), sampleGroups(6)); err != nil {
		t.Fatal(err)
	}
	saved, err := json.Marshal(a.State())
	if err != nil {
		t.Fatal(err)
	}
	tensors := a.Tensors()
	b := softOptimizer(t, newTable(2, 4, 0))
	var state State
	if err := json.Unmarshal(saved, &state); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(state, tensors); err != nil {
		t.Fatal(err)
	}
	ma, errA := a.Step(context.Background(), sampleGroups(6))
	mb, errB := b.Step(context.Background(), sampleGroups(6))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if !reflect.DeepEqual(ma, mb) {
		t.Errorf("metrics differ:\n%+v\n%+v", ma, mb)
	}
	if !reflect.DeepEqual(a.Tensors(), b.Tensors()) || !reflect.DeepEqual(a.State(), b.State()) {
		t.Error("states differ after the step")
	}
	if reflect.DeepEqual(tensors, a.Tensors()) {
		t.Error("the step did not move the projection")
	}
	before := b.Tensors()
	tensors[3].Data = tensors[3].Data[1:]
	if err := b.Restore(state, tensors); err == nil {
		t.Error("a cut tensor was restored")
	}
	if !reflect.DeepEqual(before, b.Tensors()) {
		t.Error("a refused state changed the projection")
	}
}

func TestNonFiniteNumbersNeverReachAnUpdate(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		spoil  func(*Text, *Group)
		reason Reason
	}{
		"reward":    {func(x *Text, _ *Group) { x.Reward = math.NaN() }, BadReward},
		"logprob":   {func(x *Text, _ *Group) { x.Logprobs = []float32{nan} }, BadLogprob},
		"reference": {func(x *Text, _ *Group) { x.Ref = []float32{float32(math.Inf(-1))} }, BadReference},
		"length":    {func(x *Text, _ *Group) { x.Ref = nil }, BadLength},
		"tokens":    {func(x *Text, _ *Group) { x.Tokens = []int32{99} }, BadTokens},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(2, 4, .1)
			o := softOptimizer(t, table)
			few := sampleGroups(2)
			c.spoil(&few[0].Texts[0], &few[0])
			m, err := o.Step(context.Background(), few)
			if err == nil || fault.ClassOf(err) != fault.Fatal {
				t.Fatalf("one bad text of eight: err = %v, want a fatal one", err)
			}
			if m.Quarantined[c.reason] != 1 || table.calls != 0 {
				t.Errorf("reasons %v, %d calls of the trainer", m.Quarantined, table.calls)
			}
			many := sampleGroups(30)
			c.spoil(&many[0].Texts[0], &many[0])
			m, err = o.Step(context.Background(), many)
			if err != nil {
				t.Fatalf("one bad text of 120: %v", err)
			}
			if m.Texts != 119 || m.Quarantined[c.reason] != 1 {
				t.Errorf("%d texts used, reasons %v", m.Texts, m.Quarantined)
			}
		})
	}
}

func TestNonFiniteAnswersAreRefused(t *testing.T) {
	for name, poison := range map[string]func(*Pass){
		"logprob":        func(p *Pass) { p.Logprobs[0][3] = float32(math.NaN()) },
		"loss":           func(p *Pass) { p.LossSum = math.Inf(1) },
		"gradient":       func(p *Pass) { p.EmbedGrads[0][0] = float32(math.Inf(1)) },
		"short answer":   func(p *Pass) { p.Logprobs = p.Logprobs[1:] },
		"short row":      func(p *Pass) { p.Logprobs[0] = p.Logprobs[0][1:] },
		"no gradient":    func(p *Pass) { p.EmbedGrads = nil },
		"short gradient": func(p *Pass) { p.EmbedGrads[0] = p.EmbedGrads[0][1:] },
	} {
		table := newTable(2, 4, .1)
		table.poison = poison
		o := softOptimizer(t, table)
		before := o.Tensors()
		if _, err := o.Step(context.Background(), sampleGroups(6)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if table.t != 0 || !reflect.DeepEqual(before, o.Tensors()) {
			t.Errorf("%s: something was updated", name)
		}
	}
}

func TestEarlyStopAfterAtLeastOneStep(t *testing.T) {
	table := newTable(2, 4, .1)
	o := softOptimizer(t, table)
	o.set.TargetKL = .1
	groups := sampleGroups(6)
	for g := range groups {
		for i := range groups[g].Texts {
			groups[g].Texts[i].Ref = []float32{-5}
		}
	}
	m, err := o.Step(context.Background(), groups)
	if err != nil {
		t.Fatal(err)
	}
	if !m.EarlyStop || m.Updates != 1 || table.t != 1 {
		t.Errorf("early stop %v after %d updates (%d on the server), want true after 1", m.EarlyStop, m.Updates, table.t)
	}
	if !(m.BetaNext > m.Beta) {
		t.Errorf("β went from %v to %v although the KL is above its target", m.Beta, m.BetaNext)
	}
}

func TestAlarms(t *testing.T) {
	o := softOptimizer(t, newTable(2, 4, .1))
	o.set.Limits = Limits{MaxRejected: .5, MinUnique: .5, MinDistinct: .5, MinEntropy: .1, MaxKL: 1, MaxSamplerGap: .01}
	groups := sampleGroups(3)
	for g := range groups {
		for i := range groups[g].Texts {
			x := &groups[g].Texts[i]
			x.Rejected = i < 3
			x.Logprobs, x.Ref = []float32{-.01}, []float32{-4}
		}
	}
	m, err := o.Step(context.Background(), groups)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, a := range m.Alarms {
		got[a.Name] = a.Stop
	}
	want := map[string]bool{"rejected": true, "kl": true, "unique": false, "distinct_2": false, "entropy": false, "sampler_gap": false}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("alarms %v, want %v", got, want)
	}
}

func TestSettingsAreValidated(t *testing.T) {
	for name, spoil := range map[string]func(*Settings){
		"epochs":      func(s *Settings) { s.Epochs = 0 },
		"clip":        func(s *Settings) { s.ClipLow = 1 },
		"beta":        func(s *Settings) { s.Beta = math.NaN() },
		"vocabulary":  func(s *Settings) { s.VocabSize = 0 },
		"placeholder": func(s *Settings) { s.Placeholder = s.VocabSize },
	} {
		s := tableSettings()
		spoil(&s)
		if _, err := NewOptimizer(s, newTable(1, 2, 0), nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
