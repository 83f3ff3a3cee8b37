package torch

/*
#include "adam_kernel.h"
*/
import "C"

import (
	"fmt"
)

// table is an embedding table [rows, width] whose step costs as much as the rows that were looked up, not as the table.
type table struct {
	name    string
	weight  *Tensor
	width   int
	updates []int32 // how often each row was updated: its bias correction
	slot    []int32 // 1 + position of a row in rows, 0 when absent; all zero between steps
	pending []pendingRows
	rows    []int64   // the rows of this step, in order of first appearance
	grad    []float32 // their gradients
}

// pendingRows is one look-up: rows are the distinct rows, leaf holds copies of them and collects their gradient.
type pendingRows struct {
	rows []int64
	leaf *Tensor
}

// SetRowwise makes the named parameter [rows, width] a table that is read for training by Lookup only and updated row
// by row: a row's moments and its bias correction advance in the steps that look it up (lazy Adam; the correction by
// the row's own count of updates is our choice), and so does its weight decay. The parameter no longer takes a gradient.
func (a *Adam) SetRowwise(name string) error {
	t := a.params.Get(name)
	shape := t.Shape()
	if len(shape) != 2 || shape[1] == 0 {
		return fmt.Errorf("torch: row-wise parameter %q is %v, not a table", name, t)
	}
	if a.tables[name] != nil {
		return nil
	}
	if err := a.params.SetTrainable(false, name); err != nil {
		return err
	}
	a.tables[name] = &table{
		name: name, weight: t, width: int(shape[1]),
		updates: make([]int32, shape[0]), slot: make([]int32, shape[0]),
	}
	return nil
}

// Lookup returns the rows ids of the row-wise table name, [len(ids), width], and follows them for the next Step. The
// gradients of a row that occurs several times, in one look-up or in several, add up. With autograd off it only reads.
func (a *Adam) Lookup(s *Scope, name string, ids []int64) *Tensor {
	const op = "lookup"
	t := a.tables[name]
	if !s.ready(op) {
		return nil
	}
	if t == nil {
		s.Fail(shapeError(op, "%q is not a row-wise parameter", name))
		return nil
	}
	rows, index := make([]int64, 0, len(ids)), make([]int64, len(ids))
	var bad error
	for i, id := range ids {
		if id < 0 || id >= int64(len(t.slot)) {
			bad = shapeError(op, "row %d of %q, which has %d", id, name, len(t.slot))
			break
		}
		if t.slot[id] == 0 {
			rows = append(rows, id)
			t.slot[id] = int32(len(rows))
		}
		index[i] = int64(t.slot[id] - 1)
	}
	for _, r := range rows {
		t.slot[r] = 0
	}
	if bad != nil {
		s.Fail(bad)
		return nil
	}
	weights := t.weight.F32View()
	data := make([]float32, len(rows)*t.width)
	for i, r := range rows {
		copy(data[i*t.width:(i+1)*t.width], weights[int(r)*t.width:])
	}
	leaf := s.Float32(data, int64(len(rows)), int64(t.width))
	if s.grad && len(rows) > 0 {
		s.RequireGrad(leaf)
		if s.Err() == nil {
			t.pending = append(t.pending, pendingRows{rows, s.Keep(leaf)})
		}
	}
	return s.Rows(leaf, index)
}

func (t *table) drop() {
	for _, p := range t.pending {
		p.leaf.Free()
	}
	t.pending = nil
	t.rows, t.grad = t.rows[:0], t.grad[:0]
}

// collect adds the pending look-ups up to one gradient per distinct row.
func (t *table) collect() ([]float32, error) {
	t.rows, t.grad = t.rows[:0], t.grad[:0]
	defer func() {
		for _, r := range t.rows {
			t.slot[r] = 0
		}
	}()
	for _, p := range t.pending {
		g, err := gradView(p.leaf)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", t.name, err)
		}
		if g == nil { // looked up, but the loss does not depend on it
			continue
		}
		for i, r := range p.rows {
			row := g[i*t.width : (i+1)*t.width]
			if k := t.slot[r]; k > 0 {
				C.recpie_add(f32(t.grad[int(k-1)*t.width:]), f32(row), C.int64_t(t.width))
				continue
			}
			t.rows = append(t.rows, r)
			t.grad = append(t.grad, row...)
			t.slot[r] = int32(len(t.rows))
		}
	}
	return t.grad, nil
}

// update applies the collected gradients.
func (t *table) update(a *Adam, c C.recpie_adam_step, lr float64) {
	weights := t.weight.F32View()
	mo := a.momentsOf(t.name, len(weights))
	last := int32(-1)
	for i, r := range t.rows {
		t.updates[r]++
		if t.updates[r] != last {
			last = t.updates[r]
			a.correct(&c, lr, int64(last))
		}
		at := int(r) * t.width
		C.recpie_adam(f32(weights[at:]), f32(t.grad[i*t.width:]), f32(mo.m[at:]), f32(mo.v[at:]), C.int64_t(t.width), &c)
	}
}
