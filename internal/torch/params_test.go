package torch

import (
	"slices"
	"testing"
)

func TestParams(t *testing.T) {
	p := NewParams()
	w, err := p.Add("w", []float32{1, 2, 3, 4}, 2, 2)
	must(t, err)
	f, err := p.AddFrozen("frozen", []float32{5}, 1)
	must(t, err)
	if _, err := p.Add("w", []float32{1}, 1); err == nil {
		t.Error("a second w was accepted")
	}
	if _, err := p.Add("short", []float32{1}, 2); err == nil || p.Get("short") != nil {
		t.Error("one element of two was accepted")
	}
	if !slices.Equal(p.Names(), []string{"w", "frozen"}) || p.NumElements() != 5 || !slices.Equal(p.All(), []*Tensor{w, f}) {
		t.Error(p.Names(), p.NumElements())
	}
	if !w.RequiresGrad() || f.RequiresGrad() {
		t.Error("trainable")
	}
	must(t, p.SetTrainable(true, "frozen"))
	must(t, p.SetTrainable(false, "w"))
	if w.RequiresGrad() || !f.RequiresGrad() {
		t.Error("SetTrainable")
	}
	if p.SetTrainable(true, "absent") == nil {
		t.Error("an absent name was accepted")
	}
	before := p.Snapshot()
	for name, bad := range map[string][]Named{
		"unknown":   {{"x", []int64{1}, []float32{0}}},
		"missing":   {{"w", []int64{2, 2}, make([]float32, 4)}},
		"twice":     {{"w", []int64{2, 2}, make([]float32, 4)}, {"w", []int64{2, 2}, make([]float32, 4)}},
		"shape":     {{"w", []int64{4}, make([]float32, 4)}, {"frozen", []int64{1}, []float32{0}}},
		"too short": {{"w", []int64{2, 2}, make([]float32, 3)}, {"frozen", []int64{1}, []float32{0}}},
	} {
		if p.Load(bad) == nil {
			t.Errorf("%s: accepted", name)
		}
		if !slices.Equal(w.F32View(), []float32{1, 2, 3, 4}) {
			t.Errorf("%s: changed the weights", name)
		}
	}
	must(t, p.Load([]Named{{"frozen", []int64{1}, []float32{9}}, {"w", []int64{2, 2}, []float32{4, 3, 2, 1}}}))
	if w.F32View()[0] != 4 || f.F32View()[0] != 9 {
		t.Error("Load")
	}
	must(t, p.Load(before))
	if w.F32View()[0] != 1 || before[0].Data[0] != 1 {
		t.Error("the snapshot is not a copy")
	}
	p.Free()
	if w.ok() || len(p.Names()) != 0 || p.Get("w") != nil {
		t.Error("Free")
	}
}
