package policy

import (
	"fmt"

	"recpie/internal/fault"
)

// State is what a checkpoint must hold beside Tensors so that the next step is the one that an unbroken run would have made, bit for bit.
// It survives JSON unchanged.
type State struct {
	Step      int          `json:"step"`
	Beta      float64      `json:"beta"`
	AdamSteps int          `json:"adam_steps"`
	Critic    *CriticState `json:"critic,omitempty"`
}

// State returns a copy of the optimizer's numbers.
func (o *Optimizer) State() State {
	s := State{Step: o.step, Beta: o.beta}
	if o.projection != nil {
		s.AdamSteps = o.projection.steps
	}
	if o.critic != nil {
		c := o.critic.State()
		s.Critic = &c
	}
	return s
}

// Tensors returns copies of the projection and its moments, empty without a soft prompt.
func (o *Optimizer) Tensors() []Named {
	if o.projection == nil {
		return nil
	}
	return o.projection.Tensors()
}

// Restore sets the optimizer to a saved state. A state of another shape is refused and nothing is changed.
func (o *Optimizer) Restore(s State, tensors []Named) error {
	const op = "policy: restore"
	if s.Step < 0 || !finite(s.Beta) || s.Beta < 0 {
		return fault.Newf(fault.Fatal, op, "step %d, beta %v", s.Step, s.Beta)
	}
	if (o.critic != nil) != (s.Critic != nil) {
		return fault.New(fault.Fatal, op, fmt.Errorf("the saved state and this run differ in having a critic"))
	}
	var critic Critic
	if o.critic != nil {
		critic = Critic{dim: o.critic.dim, ridge: o.critic.ridge, gram: make([]float64, len(o.critic.gram)), moment: make([]float64, o.critic.dim)}
		if err := critic.Restore(*s.Critic); err != nil {
			return fault.New(fault.Fatal, op, err)
		}
	}
	if o.projection != nil {
		if err := o.projection.restore(tensors, s.AdamSteps); err != nil {
			return fault.New(fault.Fatal, op, err)
		}
	}
	if o.critic != nil {
		*o.critic = critic
	}
	o.step, o.beta = s.Step, s.Beta
	return nil
}
