package lm

import (
	"sort"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// adapter is a LoRA merged into copies of the matrices it changes: decoding then costs what the base model costs. Everything else is
// shared with the base. refs counts the requests that use it.
type adapter struct {
	name, dir string
	cfg       LoRAConfig
	net       *network
	merged    []*torch.Tensor
	refs      int
	unloaded  bool
}

func (a *adapter) free() {
	for _, t := range a.merged {
		t.Free()
	}
	a.merged = nil
}

// AdapterInfo describes a loaded adapter.
type AdapterInfo struct {
	Name, Dir string
	Rank      int
}

// LoadAdapter reads a PEFT folder and makes it available under name. A folder that does not fit the model exactly is refused; so is
// a name in use (ErrAdapterExists).
func (e *Engine) LoadAdapter(name, dir string) error {
	const op = "lm: load adapter"
	if name == "" {
		return fault.Newf(fault.Item, op, "an adapter needs a name")
	}
	cfg, data, err := readAdapter(dir, e.b.Model.Cfg)
	if err != nil {
		return fault.New(fault.Item, op, err)
	}
	a := &adapter{name: name, dir: dir, cfg: cfg}
	if err := a.merge(e.base, data); err != nil {
		return fault.New(fault.Fatal, op, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		a.free()
		return fault.New(fault.Fatal, op, ErrClosed)
	case e.adapters[name] != nil:
		a.free()
		return fault.Newf(fault.Item, op, "%w: %q", ErrAdapterExists, name)
	}
	e.adapters[name] = a
	return nil
}

// UnloadAdapter removes an adapter. Requests under way finish with it.
func (e *Engine) UnloadAdapter(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.adapters[name]
	if a == nil {
		return fault.Newf(fault.Item, "lm: unload adapter", "%w: %q", ErrUnknownAdapter, name)
	}
	delete(e.adapters, name)
	if a.unloaded = true; a.refs == 0 {
		a.free()
	}
	return nil
}

// Adapters lists the loaded adapters by name.
func (e *Engine) Adapters() []AdapterInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]AdapterInfo, 0, len(e.adapters))
	for _, a := range e.adapters {
		out = append(out, AdapterInfo{a.name, a.dir, a.cfg.Rank})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// merge makes the adapter's network: w + scale·aᵀ·uᵀ in place of each target's w.
func (a *adapter) merge(base *network, data [][]float32) error {
	net := *base
	net.blocks = append([]block(nil), base.blocks...)
	err := torch.NoGrad(func(s *torch.Scope) error {
		sp := loraSpecs(base.cfg, a.cfg)
		targets := a.cfg.targets()
		for i := 0; i < len(sp); i += 2 {
			l := net.blocks[i/2/len(targets)].target(targets[i/2%len(targets)])
			s.Sub(func(s *torch.Scope) {
				la, lb := s.Float32(data[i], sp[i].shape...), s.Float32(data[i+1], sp[i+1].shape...)
				delta := s.MatMul(s.Transpose(la, 0, 1), s.Transpose(lb, 0, 1))
				l.w = s.Keep(s.Add(l.w, s.MulS(delta, a.cfg.scale())))
				a.merged = append(a.merged, l.w)
			})
		}
		return nil
	})
	if err != nil {
		a.free()
		return err
	}
	a.net = &net
	return nil
}
