package lm

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// WarmupOptions say how a fresh model is taught. Zero values choose the defaults.
type WarmupOptions struct {
	Steps       int     // default 300
	Batch       int     // examples per step, default 48
	LR          float64 // the peak, default 1e-3: 5% of the steps rise to it, the rest fall to a tenth of it by a cosine
	WeightDecay float64 // of the matrices, default 0.01
	ClipNorm    float64 // default 1
	Seed        int64
	Progress    func(step, total int, loss float64) // loss is the step's mean per target token, in nats
}

func (o WarmupOptions) withDefaults() WarmupOptions {
	set := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Steps <= 0 {
		o.Steps = 300
	}
	if o.Batch <= 0 {
		o.Batch = 48
	}
	set(&o.LR, 1e-3)
	set(&o.WeightDecay, 0.01)
	set(&o.ClipNorm, 1)
	return o
}

// rate is the learning rate of a step, counted from 0.
func (o WarmupOptions) rate(step int) float64 {
	rise := max(1, o.Steps/20)
	if step < rise {
		return o.LR * float64(step+1) / float64(rise)
	}
	done := float64(step-rise) / float64(max(1, o.Steps-rise))
	return o.LR * (0.1 + 0.9*0.5*(1+math.Cos(math.Pi*done)))
}

// groupSize bounds how many neighbouring examples with a common beginning stay together in a batch: they share most of the work, but a
// batch should hold many different beginnings.
const groupSize = 6

// Warmup trains all weights of the bundle's model on the examples' targets; prompts are only read. Neighbouring examples that begin
// alike are kept in one batch and their beginning is computed once, so list together what belongs together. The same seed, examples
// and number of threads give the same weights. When ctx ends, or on any error, the model keeps its weights from before.
func Warmup(ctx context.Context, b *Bundle, examples []Example, o WarmupOptions) error {
	const op = "lm: warm-up"
	o = o.withDefaults()
	w := &warmup{b: b, examples: examples, o: o, params: torch.NewParams()}
	defer w.params.Free()
	if err := w.check(); err != nil {
		return fault.New(fault.Item, op, err)
	}
	if err := w.run(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Fatal, op, err)
	}
	for _, sp := range b.Model.specs {
		copy(b.Model.weight(sp.name), w.params.Get(sp.name).F32View())
	}
	return nil
}

type warmup struct {
	b        *Bundle
	examples []Example
	o        WarmupOptions
	params   *torch.Params
	net      *network
}

func (w *warmup) check() error {
	cfg := w.b.Model.Cfg
	if len(w.examples) == 0 {
		return fmt.Errorf("no examples")
	}
	for i, ex := range w.examples {
		if err := checkPrompt(ex.Prompt, ex.soft(), cfg); err != nil {
			return fmt.Errorf("example %d: %w", i, err)
		}
		if len(ex.Target) == 0 || len(ex.Prompt)+len(ex.Target) > cfg.MaxPositions+1 {
			return fmt.Errorf("example %d: %d prompt and %d target tokens for %d positions", i, len(ex.Prompt), len(ex.Target), cfg.MaxPositions)
		}
		for _, id := range ex.Target {
			if id < 0 || int(id) >= cfg.VocabSize {
				return fmt.Errorf("example %d: target id %d is not in the vocabulary", i, id)
			}
		}
	}
	return nil
}

func (ex Example) soft() []SoftRows {
	if ex.Soft == nil {
		return nil
	}
	return []SoftRows{*ex.Soft}
}

func (w *warmup) run(ctx context.Context) error {
	for _, sp := range w.b.Model.specs {
		if _, err := w.params.Add(sp.name, w.b.Model.weight(sp.name), sp.shape...); err != nil {
			return err
		}
	}
	w.net = newNetwork(w.b.Model.Cfg, w.b.Model.rope, w.params.Get)
	opt, err := torch.NewAdam(w.params, torch.AdamConfig{
		LR: w.o.LR, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, Decoupled: true, ClipNorm: w.o.ClipNorm, Decay: w.decay,
	})
	if err != nil {
		return err
	}
	defer opt.Close()
	next := w.batches()
	for step := range w.o.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		loss, err := w.gradients(next())
		if err != nil {
			return err
		}
		if _, err := opt.Step(w.o.rate(step)); err != nil {
			return err
		}
		if w.o.Progress != nil {
			w.o.Progress(step+1, w.o.Steps, loss)
		}
	}
	return nil
}

// decay spares gains, biases and the embeddings, whose rare rows it would wear away.
func (w *warmup) decay(name string) float64 {
	inBlock := strings.HasPrefix(name, "h.") || strings.HasPrefix(name, "layers.")
	if inBlock && strings.HasSuffix(name, ".weight") && !strings.Contains(name, ".ln_") && !strings.Contains(name, "layernorm") {
		return w.o.WeightDecay
	}
	return 0
}

// batches returns a function that gives the examples of one step after the other: groups in random order, epoch after epoch.
func (w *warmup) batches() func() []int {
	var groups [][]int
	for i := range w.examples {
		if n := len(groups) - 1; n >= 0 && len(groups[n]) < groupSize && w.alike(i-1, i) {
			groups[n] = append(groups[n], i)
		} else {
			groups = append(groups, []int{i})
		}
	}
	rng := rand.New(rand.NewPCG(uint64(w.o.Seed), 0x7761726d))
	var order []int
	return func() []int {
		var batch []int
		for len(batch) < w.o.Batch {
			if len(order) == 0 {
				order = rng.Perm(len(groups))
			}
			batch = append(batch, groups[order[0]]...)
			order = order[1:]
			if len(order) == 0 && len(batch) > 0 && len(w.examples) < w.o.Batch {
				break // fewer examples than a batch takes: once round is enough
			}
		}
		return batch
	}
}

// alike reports whether two prompts share at least half of the shorter one.
func (w *warmup) alike(i, j int) bool {
	a, b := w.examples[i].Prompt, w.examples[j].Prompt
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return 2*n >= min(len(a), len(b))
}

// gradients leaves the gradient of the mean target loss of a batch in the parameters and returns that loss. Parts of the batch bound
// the memory.
func (w *warmup) gradients(batch []int) (float64, error) {
	total := 0
	for _, i := range batch {
		total += len(w.examples[i].Target)
	}
	loss, budget := 0.0, maxTokens(w.b.Model.Cfg, passBytes)
	for from := 0; from < len(batch); {
		to, tokens := from, 0
		for to < len(batch) {
			ex := w.examples[batch[to]]
			if tokens += len(ex.Prompt) + len(ex.Target); to > from && tokens > budget {
				break
			}
			to++
		}
		part, err := w.part(batch[from:to], 1/float64(total))
		if err != nil {
			return 0, err
		}
		loss += part
		from = to
	}
	return loss, nil
}

// part adds the gradient of scale × the summed loss of some examples.
func (w *warmup) part(batch []int, scale float64) (loss float64, err error) {
	table := newSoftTable(w.b.Model.Cfg.HiddenSize)
	seqs := make([][]int64, len(batch))
	for n, i := range batch {
		ex := &w.examples[i]
		seqs[n] = promptKeys(&GenRequest{Prompt: ex.Prompt, Soft: ex.soft()}, table)
		for _, id := range ex.Target[:len(ex.Target)-1] {
			seqs[n] = append(seqs[n], int64(id))
		}
	}
	p := newPlan(seqs, true)
	want := newWanted(p)
	var tickets [][2]int32
	var targets []int64
	for n, i := range batch {
		ex := &w.examples[i]
		for k, id := range ex.Target {
			tickets = append(tickets, want.add(p.index[n], len(ex.Prompt)-1+k))
			targets = append(targets, int64(id))
		}
	}
	idx := make([]int64, len(tickets))
	for k, t := range tickets {
		idx[k] = want.row(t)
	}
	err = torch.Do(func(s *torch.Scope) error {
		var soft *torch.Tensor
		if len(table.data) > 0 {
			soft = s.Float32(table.data, int64(len(table.data)/table.dim), int64(table.dim))
		}
		hidden := w.net.forward(s, p, soft, want)
		n := int64(len(idx))
		lp := s.LogProbOf(w.net.logits(s, s.IndexSelect(hidden, 0, s.Int64(idx, n))), s.Int64(targets, n))
		l := s.MulS(s.Sum(lp), -scale)
		s.Backward(l)
		loss = s.Item(l)
		return s.Err()
	})
	return loss, err
}
