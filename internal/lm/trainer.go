package lm

import (
	"context"
	"path/filepath"
	"sync"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/torch"
)

// Trainer trains one LoRA adapter over a bundle's frozen weights, which any number of trainers and engines share. Its methods may be
// called from several goroutines; they run one after the other.
type Trainer struct {
	b     *Bundle
	cfg   LoRAConfig
	opt   TrainerOptions
	specs []spec

	mu     sync.Mutex
	params *torch.Params
	grads  [][]float32 // summed since the last step
	adam   *adamState
}

// TrainerOptions say how passes are computed; results do not depend on them, up to rounding.
type TrainerOptions struct {
	Workers int // parts of a pass computed side by side, default 1: with one tensor thread each, as many as cores is fastest
	// Checkpointing keeps the layers' inputs alone and computes the layers again for the gradient: a third more time, the activations of one
	// layer instead of all. Not with dropout.
	Checkpointing bool
}

// NewTrainer makes an adapter that changes nothing yet.
func NewTrainer(b *Bundle, c LoRAConfig, o TrainerOptions) (*Trainer, error) {
	const op = "lm: new trainer"
	c = c.withDefaults()
	if err := c.check(b.Model.Cfg); err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	c = c.named(b.Model.Cfg)
	o.Workers = max(1, o.Workers)
	t := &Trainer{b: b, cfg: c, opt: o, specs: loraSpecs(b.Model.Cfg, c), params: torch.NewParams()}
	for i, data := range initialLoRA(t.specs, c.Seed) {
		if _, err := t.params.Add(t.specs[i].name, data, t.specs[i].shape...); err != nil {
			t.params.Free()
			return nil, fault.New(fault.Fatal, op, err)
		}
	}
	t.reset()
	return t, nil
}

// reset forgets gradients and moments.
func (t *Trainer) reset() {
	sizes := make([]int, len(t.specs))
	t.grads = make([][]float32, len(t.specs))
	for i, sp := range t.specs {
		sizes[i] = int(sp.elements())
		t.grads[i] = make([]float32, sizes[i])
	}
	t.adam = newAdamState(sizes)
}

// Config returns the adapter's description.
func (t *Trainer) Config() LoRAConfig { return t.cfg }

// Close frees the adapter.
func (t *Trainer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.params.Free()
}

// network returns the base network with the adapter on it, and the adapter's tensors as leaves by name. With freeze they are used but not followed
// by autograd; dropout is that of their inputs.
func (t *Trainer) network(s *torch.Scope, freeze bool, dropout float64) (*network, map[string]*torch.Tensor) {
	m := t.b.Model
	net, targets, leaves := m.network(), m.Cfg.targets(t.cfg), map[string]*torch.Tensor{}
	for _, sp := range t.specs {
		w := t.params.Get(sp.name)
		if m.dev != torch.CPU { // the adapter's own weights stay on the host, where the optimizer is
			w = s.Float32(w.F32View(), sp.shape...)
		} else {
			w = s.Detach(w) // a gradient of its own for every part
		}
		if !freeze {
			s.RequireGrad(w)
		}
		leaves[sp.name] = w
	}
	for i := range net.blocks {
		for _, target := range targets {
			name := m.Cfg.layerName(i, target.name)
			l := net.blocks[i].linear(target.of)
			l.lora = append(l.lora, loraPart{from: target.from, n: target.out, a: leaves[name+".lora_A.weight"], u: leaves[name+".lora_B.weight"],
				scale: t.cfg.scale(), dropout: dropout})
		}
	}
	return net, leaves
}

// ForwardBackward scores data and, unless forwardOnly, adds the gradient of the loss to what the next OptimStep uses. Losses are sums.
// Nothing is added when it fails or ctx ends. Besides the loss's own settings cfg may hold logprobs_only_weighted,
// shared_prompt_grads and freeze_adapter, each 1.
func (t *Trainer) ForwardBackward(ctx context.Context, data []Datum, loss string, cfg map[string]float64, forwardOnly bool) (*PassResult, error) {
	const op = "lm: forward_backward"
	f, err := newLoss(loss, cfg)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	if len(data) == 0 {
		return nil, fault.Newf(fault.Item, op, "no data")
	}
	for i := range data {
		if err := data[i].check(t.b.Model.Cfg, loss); err != nil {
			return nil, fault.Newf(fault.Item, op, "datum %d: %w", i, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &pass{t: t, data: data, loss: loss, f: f, forwardOnly: forwardOnly,
		only: cfg[cfgOnlyWeighted] == 1, shared: cfg[cfgSharedGrads] == 1 || forwardOnly, freeze: cfg[cfgFreeze] == 1}
	res, err := p.run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.New(fault.Endpoint, op, err)
	}
	addAll(t.grads, p.grads)
	return res, nil
}

// OptimStep applies the summed gradients by AdamW and zeroes them. It returns their norm before clipping. Gradients that are not
// finite are thrown away with an error, the weights unchanged.
func (t *Trainer) OptimStep(p AdamParams) (float64, error) {
	const op = "lm: optim_step"
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		for _, g := range t.grads {
			clear(g)
		}
	}()
	for _, g := range t.grads {
		if notFinite(g) >= 0 {
			return 0, fault.Newf(fault.Item, op, "a gradient is not finite")
		}
	}
	if !(p.Beta1 >= 0 && p.Beta1 < 1 && p.Beta2 >= 0 && p.Beta2 < 1 && p.Eps >= 0 && p.LearningRate >= 0 && p.WeightDecay >= 0) {
		return 0, fault.Newf(fault.Item, op, "optimizer settings out of range: %+v", p)
	}
	w := make([][]float32, len(t.specs))
	for i, sp := range t.specs {
		w[i] = t.params.Get(sp.name).F32View()
	}
	return t.adam.update(w, t.grads, p, nil), nil
}

const (
	optimizerFile = "optimizer.safetensors"
	momentPrefix  = "exp_avg."
	squarePrefix  = "exp_avg_sq."
	stepName      = "step"
)

// Save writes the adapter as a PEFT folder, and with optimizer the moments and the step count beside it, bit for bit. The folder
// appears whole or not at all; an existing one is refused. Gradients not yet applied are not saved.
func (t *Trainer) Save(dir string, optimizer bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := durable.ReplaceDir(dir, func(tmp string) error {
		data := make([][]float32, len(t.specs))
		for i, sp := range t.specs {
			data[i] = t.params.Get(sp.name).F32View()
		}
		if err := writeAdapter(tmp, t.b.Name, t.b.Model.Cfg, t.cfg, t.specs, data); err != nil || !optimizer {
			return err
		}
		all := append(namedTensors(momentPrefix, t.specs, t.adam.m), namedTensors(squarePrefix, t.specs, t.adam.v)...)
		all = append(all, safetensors.I64(stepName, []int64{1}, []int64{t.adam.step}))
		return safetensors.WriteFile(filepath.Join(tmp, optimizerFile), nil, all)
	})
	return fault.New(fault.Fatal, "lm: save adapter", err)
}

// Load replaces the adapter by a saved one of the same rank, scale and targets, and with optimizer the moments and the step count;
// without it they start anew. After an error nothing has changed.
func (t *Trainer) Load(dir string, optimizer bool) error {
	const op = "lm: load adapter for training"
	t.mu.Lock()
	defer t.mu.Unlock()
	c, data, err := readAdapter(dir, t.b.Model.Cfg)
	if err != nil {
		return fault.New(fault.Item, op, err)
	}
	if m := t.b.Model.Cfg; !c.fits(t.cfg, m) {
		return fault.Newf(fault.Item, op, "%s has %s; the model has %s", dir, c.describe(m), t.cfg.describe(m))
	}
	var state *adamState
	if optimizer {
		if state, err = t.readOptimizer(filepath.Join(dir, optimizerFile)); err != nil {
			return fault.New(fault.Item, op, err)
		}
	}
	for i, sp := range t.specs {
		copy(t.params.Get(sp.name).F32View(), data[i])
	}
	t.reset()
	if state != nil {
		t.adam = state
	}
	return nil
}

func (t *Trainer) readOptimizer(path string) (*adamState, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	step, _, err := f.Int64s(stepName)
	if err != nil {
		return nil, err
	}
	if len(step) != 1 || step[0] < 0 {
		return nil, fault.Newf(fault.Item, "", "%s: the step count is wrong", path)
	}
	state := &adamState{step: step[0]}
	for _, part := range []struct {
		prefix string
		to     *[][]float32
	}{{momentPrefix, &state.m}, {squarePrefix, &state.v}} {
		for _, sp := range t.specs {
			data, err := readTensor(f, part.prefix+sp.name, sp)
			if err != nil {
				return nil, fault.Newf(fault.Item, "", "%s: %w", path, err)
			}
			*part.to = append(*part.to, data)
		}
	}
	return state, nil
}
