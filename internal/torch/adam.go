package torch

/*
#include "adam_kernel.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrNotFinite is returned by Adam.Step when the gradient holds NaN or infinity; nothing has been updated then.
var ErrNotFinite = errors.New("torch: the gradient is not finite")

// AdamConfig holds the settings of Adam. Zero values of Beta1, Beta2 and Eps stand for 0.9, 0.999 and 1e-8.
type AdamConfig struct {
	LR           float64
	Beta1, Beta2 float64
	Eps          float64
	WeightDecay  float64                   // for every parameter without an own value
	Decay        func(name string) float64 // a parameter's own weight decay; nil: WeightDecay for all
	Decoupled    bool                      // AdamW: decay shrinks the weights, rather than adding to the gradient
	ClipNorm     float64                   // the gradient's global norm is reduced to this; 0: no limit
}

// Adam is Adam (Kingma and Ba, 2015) or AdamW (Loshchilov and Hutter, 2019) over a parameter set, as one loop in C per
// parameter. Moments come into being at a parameter's first gradient. Not for use by several goroutines at once.
type Adam struct {
	params  *Params
	cfg     AdamConfig
	step    int64
	moments map[string]*moments
	tables  map[string]*table
}

// moments are the running averages of a parameter's gradient and of its square.
type moments struct {
	m, v []float32
}

// NewAdam checks the settings and returns an optimiser for those parameters of p that have a gradient at Step.
func NewAdam(p *Params, cfg AdamConfig) (*Adam, error) {
	a := &Adam{params: p, moments: map[string]*moments{}, tables: map[string]*table{}}
	if err := a.SetConfig(cfg); err != nil {
		return nil, err
	}
	return a, nil
}

// SetConfig changes the settings from the next step on.
func (a *Adam) SetConfig(cfg AdamConfig) error {
	if cfg.Beta1 == 0 {
		cfg.Beta1 = 0.9
	}
	if cfg.Beta2 == 0 {
		cfg.Beta2 = 0.999
	}
	if cfg.Eps == 0 {
		cfg.Eps = 1e-8
	}
	in := func(x, lo, hi float64) bool { return x >= lo && x < hi }
	if !in(cfg.LR, 0, math.MaxFloat32) || !in(cfg.Beta1, 0, 1) || !in(cfg.Beta2, 0, 1) || !in(cfg.Eps, 0, math.MaxFloat32) ||
		!in(cfg.WeightDecay, 0, math.MaxFloat32) || !in(cfg.ClipNorm, 0, math.MaxFloat64) {
		return fmt.Errorf("torch: Adam settings out of range: lr %g, betas %g and %g, eps %g, weight decay %g, clip norm %g",
			cfg.LR, cfg.Beta1, cfg.Beta2, cfg.Eps, cfg.WeightDecay, cfg.ClipNorm)
	}
	a.cfg = cfg
	return nil
}

// ZeroGrad drops all gradients and pending look-ups.
func (a *Adam) ZeroGrad() error {
	for _, t := range a.tables {
		t.drop()
	}
	for _, t := range a.params.All() {
		if err := resetGrad(t); err != nil {
			return err
		}
	}
	return nil
}

// Step applies the gradients with learning rate lr (the configured one when 0), drops them, and returns their global
// norm before clipping. Parameters without a gradient are left alone.
func (a *Adam) Step(lr float64) (gradNorm float64, err error) {
	if lr == 0 {
		lr = a.cfg.LR
	}
	if !(lr >= 0) || math.IsInf(lr, 1) {
		return 0, fmt.Errorf("torch: learning rate %g", lr)
	}
	names := a.params.Names()
	grads := make([][]float32, len(names))
	var squares float64
	for i, n := range names {
		if t := a.tables[n]; t != nil {
			if grads[i], err = t.collect(); err != nil {
				return 0, err
			}
		} else if grads[i], err = gradView(a.params.Get(n)); err != nil {
			return 0, fmt.Errorf("parameter %q: %w", n, err)
		}
		if len(grads[i]) > 0 {
			squares += float64(C.recpie_square_sum(f32(grads[i]), C.int64_t(len(grads[i]))))
		}
	}
	gradNorm = math.Sqrt(squares)
	if math.IsNaN(gradNorm) || math.IsInf(gradNorm, 0) {
		return gradNorm, errors.Join(ErrNotFinite, a.ZeroGrad())
	}
	scale := 1.0
	if a.cfg.ClipNorm > 0 && gradNorm > a.cfg.ClipNorm {
		scale = a.cfg.ClipNorm / gradNorm
	}
	a.step++
	for i, n := range names {
		if len(grads[i]) == 0 {
			continue
		}
		c := a.constants(n, lr, scale)
		if t := a.tables[n]; t != nil {
			t.update(a, c, lr)
			continue
		}
		mo := a.momentsOf(n, len(grads[i]))
		a.correct(&c, lr, a.step)
		w := a.params.Get(n).F32View()
		C.recpie_adam(f32(w), f32(grads[i]), f32(mo.m), f32(mo.v), C.int64_t(len(w)), &c)
	}
	return gradNorm, a.ZeroGrad()
}

func f32(v []float32) *C.float { return (*C.float)(&v[0]) }

func (a *Adam) momentsOf(name string, n int) *moments {
	mo := a.moments[name]
	if mo == nil {
		mo = &moments{m: make([]float32, n), v: make([]float32, n)}
		a.moments[name] = mo
	}
	return mo
}

func (a *Adam) decay(name string) float64 {
	if a.cfg.Decay != nil {
		return a.cfg.Decay(name)
	}
	return a.cfg.WeightDecay
}

func (a *Adam) constants(name string, lr, scale float64) C.recpie_adam_step {
	c := C.recpie_adam_step{
		beta1: C.float(a.cfg.Beta1), beta2: C.float(a.cfg.Beta2), eps: C.float(a.cfg.Eps),
		grad_scale: C.float(scale), shrink: 1,
	}
	if decay := a.decay(name); a.cfg.Decoupled {
		c.shrink = C.float(1 - lr*decay)
	} else {
		c.l2 = C.float(decay)
	}
	return c
}

// correct sets what depends on the number of updates so far, this one included.
func (a *Adam) correct(c *C.recpie_adam_step, lr float64, updates int64) {
	c.step_size = C.float(lr / (1 - math.Pow(a.cfg.Beta1, float64(updates))))
	c.root_scale = C.float(1 / math.Sqrt(1-math.Pow(a.cfg.Beta2, float64(updates))))
}

const (
	stateStep    = "step"
	stateM       = ".exp_avg"
	stateV       = ".exp_avg_sq"
	stateUpdates = ".updates"
)

// maxSteps is where float32, in which the state is written, no longer holds every whole number.
const maxSteps = 1 << 24

// State copies the optimiser's state: the step counter and, per parameter with moments, "<name>.exp_avg" and
// "<name>.exp_avg_sq" (PyTorch's terms), and for row-wise tables the updates of each row as "<name>.updates".
// LoadState of it restores the optimiser bit for bit, up to 2^24 steps.
func (a *Adam) State() []Named {
	state := []Named{{Name: stateStep, Shape: []int64{1}, Data: []float32{float32(a.step)}}}
	for _, n := range a.params.Names() {
		shape := a.params.Get(n).Shape()
		if mo := a.moments[n]; mo != nil {
			state = append(state, Named{n + stateM, shape, slices.Clone(mo.m)}, Named{n + stateV, slices.Clone(shape), slices.Clone(mo.v)})
		}
		if t := a.tables[n]; t != nil {
			updates := make([]float32, len(t.updates))
			for i, u := range t.updates {
				updates[i] = float32(u)
			}
			state = append(state, Named{n + stateUpdates, []int64{int64(len(updates))}, updates})
		}
	}
	return state
}

// LoadState restores what State returned. Row-wise tables must have been declared before. After an error nothing has
// changed.
func (a *Adam) LoadState(state []Named) error {
	byName := map[string][]float32{}
	for _, e := range state {
		byName[e.Name] = e.Data
	}
	take := func(name string, n int) ([]float32, error) {
		data, ok := byName[name]
		delete(byName, name)
		if ok && len(data) != n {
			return nil, fmt.Errorf("torch: optimiser state %q has %d elements, not %d", name, len(data), n)
		}
		return slices.Clone(data), nil
	}
	counts := func(name string, n int) ([]int32, error) {
		data, err := take(name, n)
		if err == nil && data == nil {
			err = fmt.Errorf("torch: optimiser state %q is missing", name)
		}
		if err != nil {
			return nil, err
		}
		whole := make([]int32, n)
		for i, v := range data {
			if !(v >= 0 && v <= maxSteps) || v != float32(int32(v)) {
				return nil, fmt.Errorf("torch: optimiser state %q holds %v, not a count", name, v)
			}
			whole[i] = int32(v)
		}
		return whole, nil
	}
	step, err := counts(stateStep, 1)
	if err != nil {
		return err
	}
	all, updates := map[string]*moments{}, map[string][]int32{}
	for _, n := range a.params.Names() {
		size := int(a.params.Get(n).NumElements())
		m, err := take(n+stateM, size)
		if err != nil {
			return err
		}
		v, err := take(n+stateV, size)
		if err != nil {
			return err
		}
		if (m == nil) != (v == nil) {
			return fmt.Errorf("torch: optimiser state of %q has only one of its two moments", n)
		}
		if m != nil {
			all[n] = &moments{m, v}
		}
		if t := a.tables[n]; t != nil {
			if updates[n], err = counts(n+stateUpdates, len(t.updates)); err != nil {
				return err
			}
		}
	}
	for name := range byName {
		return fmt.Errorf("torch: optimiser state %q belongs to no parameter", name)
	}
	a.step, a.moments = int64(step[0]), all
	for n, u := range updates {
		a.tables[n].updates = u
	}
	return nil
}

// Steps returns the number of steps taken.
func (a *Adam) Steps() int64 { return a.step }

// Close frees pending look-ups. The parameters stay.
func (a *Adam) Close() {
	for _, t := range a.tables {
		t.drop()
	}
}
