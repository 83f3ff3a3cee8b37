package lm

import (
	"sort"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// adapter is a LoRA over the base's network. A small one is merged into copies of the matrices it changes, so that decoding costs what the base
// model costs; beside large matrices its factors are kept and multiplied. Everything else is shared with the base. refs counts the
// requests that use it.
type adapter struct {
	name, dir string
	cfg       LoRAConfig
	net       *network
	root      uint64 // of its pages of keys and values, 0 until it has some
	own       []*torch.Tensor
	refs      int
	unloaded  bool
}

func (a *adapter) free() {
	for _, t := range a.own {
		t.Free()
	}
	a.own = nil
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
	if err := a.arrange(e.b.Model, e.base.net, data); err != nil {
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

// mergeBytes is the most that merged copies of one adapter may take.
var mergeBytes int64 = 256 << 20

// arrange makes the adapter's network.
func (a *adapter) arrange(m *Model, base *network, data [][]float32) error {
	net := *base
	net.blocks = append([]block(nil), base.blocks...)
	targets, size := m.Cfg.targets(a.cfg), int64(0)
	for _, t := range targets {
		size += 4 * t.in * t.out * int64(m.Cfg.NumLayers)
	}
	err := m.dev.NoGrad(func(s *torch.Scope) error {
		sp := loraSpecs(m.Cfg, a.cfg)
		for i := range net.blocks {
			for k, t := range targets {
				l, at := net.blocks[i].linear(t.of), 2*(i*len(targets)+k)
				s.Sub(func(s *torch.Scope) {
					fa, fb := s.Float32(data[at], sp[at].shape...), s.Float32(data[at+1], sp[at+1].shape...)
					if size > mergeBytes {
						p := loraPart{from: t.from, n: t.out, a: s.Keep(s.To(fa, m.dtype)), u: s.Keep(s.To(fb, m.dtype)), scale: a.cfg.scale()}
						l.lora = append(l.lora[:len(l.lora):len(l.lora)], p)
						a.own = append(a.own, p.a, p.u)
						return
					}
					a.add(s, l, base.blocks[i].linear(t.of), t, s.MulS(s.MatMul(fb, fa), a.cfg.scale()))
				})
			}
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

// add adds delta [out, in] to the rows of a target in a copy of its layer's matrix, which is made when base still holds it.
func (a *adapter) add(s *torch.Scope, l, base *linear, t target, delta *torch.Tensor) {
	if l.w == base.w {
		l.w = s.Keep(s.Clone(base.w))
		a.own = append(a.own, l.w)
	}
	l.addRows(s, t, delta)
}
