package torch

import (
	"fmt"
	"slices"
)

// Named is a tensor's content under a name, in row-major order, as checkpoints hold it.
type Named struct {
	Name  string
	Shape []int64
	Data  []float32
}

// Params is an ordered set of named float32 parameters. It is not for use by several goroutines at once, apart from
// reading the tensors.
type Params struct {
	dev    Device
	names  []string
	byName map[string]*Tensor
}

// NewParams returns an empty set.
func NewParams() *Params { return CPU.NewParams() }

// NewParams returns an empty set whose parameters live on the device. Snapshot and Load are for sets on the CPU.
func (d Device) NewParams() *Params { return &Params{dev: d, byName: map[string]*Tensor{}} }

// Add copies data into a new parameter that requires a gradient. The set owns it: the caller does not free it.
func (p *Params) Add(name string, data []float32, shape ...int64) (*Tensor, error) {
	return p.add(name, data, shape, true)
}

// AddFrozen is Add for a weight that is not trained, and for tables read by Adam.Lookup.
func (p *Params) AddFrozen(name string, data []float32, shape ...int64) (*Tensor, error) {
	return p.add(name, data, shape, false)
}

func (p *Params) add(name string, data []float32, shape []int64, train bool) (*Tensor, error) {
	if _, ok := p.byName[name]; ok {
		return nil, fmt.Errorf("torch: parameter %q exists already", name)
	}
	var t *Tensor
	err := p.dev.NoGrad(func(s *Scope) error {
		t = s.Float32(data, shape...)
		if train {
			s.RequireGrad(t)
		}
		if s.Err() == nil {
			s.Keep(t)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parameter %q: %w", name, err)
	}
	p.names = append(p.names, name)
	p.byName[name] = t
	return t, nil
}

// SetTrainable makes autograd follow the named parameters (all when none is named), or leave them alone.
func (p *Params) SetTrainable(on bool, names ...string) error {
	if len(names) == 0 {
		names = p.names
	}
	return NoGrad(func(s *Scope) error {
		for _, n := range names {
			t := p.byName[n]
			if t == nil {
				return fmt.Errorf("torch: no parameter %q", n)
			}
			s.setRequiresGrad(t, on)
			if !on {
				s.ZeroGrad(t)
			}
		}
		return nil
	})
}

// Get returns a parameter, nil when there is none of that name.
func (p *Params) Get(name string) *Tensor { return p.byName[name] }

// Names returns the names in the order of addition.
func (p *Params) Names() []string { return slices.Clone(p.names) }

// All returns the parameters in the order of addition.
func (p *Params) All() []*Tensor {
	ts := make([]*Tensor, len(p.names))
	for i, n := range p.names {
		ts[i] = p.byName[n]
	}
	return ts
}

// NumElements returns the number of weights of the whole set.
func (p *Params) NumElements() int64 {
	var n int64
	for _, t := range p.byName {
		n += t.NumElements()
	}
	return n
}

// Snapshot copies every parameter.
func (p *Params) Snapshot() []Named {
	all := make([]Named, 0, len(p.names))
	for _, n := range p.names {
		t := p.byName[n]
		all = append(all, Named{Name: n, Shape: t.Shape(), Data: slices.Clone(t.F32View())})
	}
	return all
}

// Load overwrites every parameter with the entry of its name. All entries are checked first: after an error nothing
// has changed. Names that the set does not have are an error, and so are missing ones.
func (p *Params) Load(entries []Named) error {
	seen := map[string]bool{}
	for _, e := range entries {
		t := p.byName[e.Name]
		switch {
		case t == nil:
			return fmt.Errorf("torch: unknown parameter %q", e.Name)
		case seen[e.Name]:
			return fmt.Errorf("torch: parameter %q occurs twice", e.Name)
		case !slices.Equal(t.Shape(), e.Shape):
			return fmt.Errorf("torch: parameter %q has shape %v here and %v in the data", e.Name, t.Shape(), e.Shape)
		case int64(len(e.Data)) != t.NumElements():
			return fmt.Errorf("torch: parameter %q has %d elements, the data %d", e.Name, t.NumElements(), len(e.Data))
		}
		seen[e.Name] = true
	}
	for _, n := range p.names {
		if !seen[n] {
			return fmt.Errorf("torch: parameter %q is missing from the data", n)
		}
	}
	for _, e := range entries {
		copy(p.byName[e.Name].F32View(), e.Data)
	}
	return nil
}

// Free releases all parameters.
func (p *Params) Free() {
	for _, t := range p.byName {
		t.Free()
	}
	p.names, p.byName = nil, map[string]*Tensor{}
}
