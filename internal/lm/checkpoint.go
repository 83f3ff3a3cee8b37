package lm

import "recpie/internal/torch"

// tape is a forward pass that kept the layers' inputs alone (activation checkpointing, Chen et al. 2016): each layer is computed again when the
// gradient comes to it, which costs a third more time and takes the memory of one layer instead of all.
type tape struct {
	net    *network
	flow   *flow
	soft   *torch.Tensor
	want   *wanted
	inputs [][]*torch.Tensor // per layer and level
}

// record is forward with autograd off; backward computes what it left out.
func (n *network) record(s *torch.Scope, p *plan, soft *torch.Tensor, w *wanted) (*torch.Tensor, *tape) {
	t := &tape{net: n, soft: soft, want: w}
	var hidden *torch.Tensor
	s.NoGrad(func() {
		t.flow = n.start(s, p, soft, w)
		t.flow.drop = true
		for i := range n.blocks {
			xs := make([]*torch.Tensor, len(t.flow.levels))
			for l := range xs {
				xs[l] = t.flow.levels[l].x
			}
			t.inputs = append(t.inputs, xs)
			n.layer(s, t.flow, i)
		}
		hidden = n.finish(s, t.flow)
	})
	return hidden, t
}

// backward sends the gradient g of the hidden states back to the adapter and the soft rows.
func (t *tape) backward(s *torch.Scope, g *torch.Tensor) {
	n, f := t.net, t.flow
	var grads []*torch.Tensor // of the layer's outputs, per level
	for i := len(n.blocks) - 1; i >= 0 && s.Err() == nil; i-- {
		s.Sub(func(s *torch.Scope) {
			xs := make([]*torch.Tensor, len(f.levels))
			for l := range xs {
				xs[l] = s.RequireGrad(s.Detach(t.inputs[i][l]))
				f.levels[l].x = xs[l]
			}
			n.layer(s, f, i)
			if i == len(n.blocks)-1 {
				s.Backward(s.Sum(s.Mul(n.finish(s, f), s.Detach(g))))
			} else {
				f.backward(s, grads)
			}
			next := make([]*torch.Tensor, len(xs))
			for l := range xs {
				if next[l] = s.Grad(xs[l]); next[l] != nil {
					s.Lift(next[l])
				}
			}
			grads = next
		})
	}
	if t.soft == nil || s.Err() != nil {
		return
	}
	s.Sub(func(s *torch.Scope) { n.start(s, f.p, t.soft, t.want).backward(s, grads) })
}

// backward sends gradients of the levels' present outputs back. A level without one has moved nothing.
func (f *flow) backward(s *torch.Scope, grads []*torch.Tensor) {
	var loss *torch.Tensor
	for l := range f.levels {
		if x := f.levels[l].x; x != nil && x.RequiresGrad() && grads[l] != nil {
			part := s.Sum(s.Mul(x, s.Detach(grads[l])))
			if loss != nil {
				part = s.Add(loss, part)
			}
			loss = part
		}
	}
	if loss != nil {
		s.Backward(loss)
	}
}
