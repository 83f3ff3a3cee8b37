package torch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestFirstFailureStaysAndStopsTheRest(t *testing.T) {
	var after *Tensor
	var read []float32
	err := NoGrad(func(s *Scope) error {
		x := s.MatMul(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4, 5))
		y := s.Add(x, s.Ones(Float32, 7)) // no second error: x is nil, and nothing runs any more
		after = s.Ones(Float32, 1)
		read = s.Float32s(y)
		if s.Item(y) != 0 || y.Dim(0) != 0 || s.Err() == nil {
			t.Error("not zero after a failure")
		}
		s.CopyInto(y, after)
		s.Backward(y)
		return nil
	})
	want := "torch: matmul of float32[2,3], float32[4,5]: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if after != nil || read != nil {
		t.Error("an operation ran after the failure")
	}
	var e *Error
	if !errors.As(err, &e) || e.Op != "matmul" {
		t.Errorf("%T", err)
	}
}

func TestErrors(t *testing.T) {
	kept := NewParams()
	freed, err := kept.Add("w", []float32{1}, 1)
	must(t, err)
	kept.Free()
	for _, c := range []struct {
		want string
		f    func(s *Scope)
	}{
		{"softmax of float32[2]: Dimension out of range", func(s *Scope) { s.Softmax(s.Ones(Float32, 2), 3) }},
		{"reshape of float32[6]: shape '[4]' is invalid for input of size 6", func(s *Scope) { s.Reshape(s.Ones(Float32, 6), 4) }},
		{"embedding of float32[2,2], int64[1]: index out of range", func(s *Scope) { s.Embedding(s.Ones(Float32, 2, 2), s.Int64([]int64{2}, 1)) }},
		{"index_select of float32[2], int64[1]: index out of range", func(s *Scope) { s.IndexSelect(s.Ones(Float32, 2), 0, s.Int64([]int64{-1}, 1)) }},
		{"gather of float32[2], int64[1]: index 9 is out of bounds", func(s *Scope) { s.Gather(s.Ones(Float32, 2), 0, s.Int64([]int64{9}, 1)) }},
		{"topk of float32[2]: selected index k out of range", func(s *Scope) { s.TopK(s.Ones(Float32, 2), 3) }},
		{"max of float32[0]:", func(s *Scope) { s.MaxDim(s.Zeros(Float32, 0), 0, false) }},
		{"mean of int64[2]:", func(s *Scope) { s.Mean(s.Arange(2)) }},
		{"multinomial of float32[2]: invalid multinomial distribution", func(s *Scope) { s.Multinomial(s.Zeros(Float32, 2), 1) }},
		{"copy of float32[2], float32[3]:", func(s *Scope) { s.CopyInto(s.Ones(Float32, 2), s.Ones(Float32, 3)) }},
		{"backward of float32[]: element 0 of tensors does not require grad", func(s *Scope) { s.Backward(s.Sum(s.Ones(Float32, 2))) }},
		{"requires_grad of int64[2]:", func(s *Scope) { s.RequireGrad(s.Arange(2)) }},
		{"zero of float32[2]: a leaf Variable that requires grad", func(s *Scope) { s.ZeroInto(s.RequireGrad(s.Ones(Float32, 2))) }},
		{"item of float32[2]: needs exactly one element", func(s *Scope) { s.Item(s.Ones(Float32, 2)) }},
		{"float32: shape [2 2] takes 4 elements, the data have 3", func(s *Scope) { s.Float32([]float32{1, 2, 3}, 2, 2) }},
		{"zeros: shape [-1] has a negative size", func(s *Scope) { s.Zeros(Float32, -1) }},
		{"randn: shape [1099511627776 1099511627776] has too many elements", func(s *Scope) { s.Randn(1<<40, 1<<40) }},
		{"cat: needs at least one tensor", func(s *Scope) { s.Cat(0) }},
		{"repeat_interleave of float32[2]: the number of repeats is negative", func(s *Scope) { s.RepeatInterleave(s.Ones(Float32, 2), -1, 0) }},
		{"layer_norm of float32[]: needs at least one dimension", func(s *Scope) { s.LayerNorm(s.Full(1), nil, nil, 1) }},
		{"layer_norm of float32[2], float32[3]:", func(s *Scope) { s.LayerNorm(s.Ones(Float32, 2), s.Ones(Float32, 3), nil, 1) }},
		{"add of nil, float32[1]: an operand is nil or was freed", func(s *Scope) { s.Add(nil, s.Ones(Float32, 1)) }},
		{"exp of freed: an operand is nil or was freed", func(s *Scope) { s.Exp(freed) }},
		{"layer_norm of float32[1], freed:", func(s *Scope) { s.LayerNorm(s.Ones(Float32, 1), freed, nil, 1) }},
		{"cat of nil: an operand is nil", func(s *Scope) { s.Cat(0, nil) }},
		{"gelu of freed:", func(s *Scope) { s.Gelu(freed) }},
		{"zero_grad of freed:", func(s *Scope) { s.ZeroGrad(freed) }},
		{"keep of nil:", func(s *Scope) { s.Keep(nil) }},
		{"gelu of int64[2]:", func(s *Scope) { s.Gelu(s.Arange(2)) }},
	} {
		err := Do(func(s *Scope) error { c.f(s); return nil })
		if err == nil || !strings.HasPrefix(err.Error(), "torch: "+c.want) {
			t.Errorf("got  %v\nwant torch: %s", err, c.want)
		} else if strings.Contains(err.Error(), "Exception raised") || strings.Contains(err.Error(), "frame #") {
			t.Errorf("the backtrace is still there: %v", err)
		}
	}
}

func TestLifetimes(t *testing.T) {
	var inner, lifted, outer, kept *Tensor
	var escaped *Scope
	must(t, NoGrad(func(s *Scope) error {
		escaped = s
		outer = s.Ones(Float32, 1)
		s.Sub(func(s *Scope) {
			s.Ones(Float32, 2)
			s.Sub(func(s *Scope) {
				inner = s.Ones(Float32, 3)
				s.Ones(Float32, 1)
				lifted = s.Lift(s.Ones(Float32, 4))
				kept = s.Keep(s.Ones(Float32, 5))
			})
			if inner.Shape() != nil || inner.F32View() != nil || inner.String() != "freed" || lifted.Dim(0) != 4 {
				t.Errorf("inner %v, lifted %v", inner, lifted)
			}
			inner = s.AddS(lifted, 1)
		})
		if inner.ok() || lifted.ok() || !outer.ok() {
			t.Errorf("inner %v, lifted %v, outer %v", inner, lifted, outer)
		}
		outer.Free() // not kept: the scope's business
		if !outer.ok() {
			t.Error("Free of a tensor in a scope")
		}
		return nil
	}))
	if outer.ok() || kept.Dim(0) != 5 {
		t.Errorf("outer %v, kept %v", outer, kept)
	}
	kept.Free()
	kept.Free()
	if kept.ok() || escaped.Ones(Float32, 1) != nil || escaped.Err() == nil {
		t.Error("use after the end")
	}
}

func TestAutogradSwitch(t *testing.T) {
	follows := func(s *Scope) bool { return s.AddS(s.RequireGrad(s.Ones(Float32, 1)), 1).RequiresGrad() }
	must(t, Do(func(s *Scope) error {
		if !follows(s) {
			t.Error("Do: off")
		}
		must(t, NoGrad(func(s *Scope) error {
			if follows(s) {
				t.Error("NoGrad: on")
			}
			return Do(func(s *Scope) error {
				if !follows(s) {
					t.Error("Do in NoGrad: off")
				}
				return nil
			})
		}))
		s.NoGrad(func() {
			if follows(s) {
				t.Error("Scope.NoGrad: on")
			}
		})
		if !follows(s) {
			t.Error("Do afterwards: off")
		}
		x := s.RequireGrad(s.Full(3))
		if s.Grad(x) != nil {
			t.Error("a gradient before backward")
		}
		s.Backward(s.Square(x))
		s.Backward(s.Square(x))
		if g := s.Item(s.Grad(x)); g != 12 {
			t.Errorf("two backward passes gave %v", g)
		}
		s.ZeroGrad(x)
		if s.Grad(x) != nil {
			t.Error("a gradient after ZeroGrad")
		}
		return nil
	}))
}

func TestReturnedErrorsAndPanics(t *testing.T) {
	own := errors.New("own")
	if err := Do(func(s *Scope) error { return own }); err != own {
		t.Error(err)
	}
	if err := Do(func(s *Scope) error { s.Fail(own); return nil }); err != own {
		t.Error(err)
	}
	if err := Do(func(s *Scope) error { s.Fail(own); return fmt.Errorf("while testing: %w", s.Err()) }); err == own || !errors.Is(err, own) {
		t.Error(err)
	}
	err := Do(func(s *Scope) error {
		_ = s.MatMul(s.Full(1), s.Full(1)).Shape()[0] // a panic that only follows the failure
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "torch: matmul") {
		t.Error(err)
	}
	var x *Tensor
	func() {
		defer func() {
			if recover() != "own panic" {
				t.Error("the panic is gone")
			}
		}()
		_ = Do(func(s *Scope) error { x = s.Ones(Float32, 1); panic("own panic") })
	}()
	if x.ok() {
		t.Error("not freed by a panic")
	}
}

func TestFailuresOfConcurrentScopesAreNotMixedUp(t *testing.T) {
	var wg sync.WaitGroup
	for g := range int64(8) {
		wg.Go(func() {
			for i := range int64(300) {
				n := 2 + g*1000 + i // the message names it
				err := NoGrad(func(s *Scope) error {
					x := s.Ones(Float32, 1, n)
					switch i % 4 {
					case 0:
						s.MatMul(x, x)
					case 1:
						s.Reshape(x, n+1)
					case 2:
						s.CopyInto(x, s.Ones(Float32, n+1))
					case 3:
						if sum := s.Item(s.Sum(x)); sum != float64(n) {
							t.Errorf("sum %v, want %d", sum, n)
						}
					}
					return nil
				})
				if (err == nil) != (i%4 == 3) || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("[1,%d]", n)) ||
					i%4 == 1 && !strings.Contains(err.Error(), fmt.Sprintf("'[%d]' is invalid", n+1)) {
					t.Errorf("goroutine %d, round %d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// nativeBytes is the resident memory apart from Go's own heap, whose size is the garbage collector's business.
func nativeBytes(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm: ", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(resident)*float64(os.Getpagesize()) - float64(m.Sys-m.HeapReleased)
}

// slope runs round over several windows and returns the median growth of the native memory per round: allocators grow
// in steps, a leak grows in every window.
func slope(t *testing.T, windows, rounds int, round func()) float64 {
	t.Helper()
	var slopes []float64
	last := 0.0
	for i := range windows + 2 {
		for range rounds {
			round()
		}
		now := nativeBytes(t)
		if i > 1 { // in the first two, allocators reach their size
			slopes = append(slopes, (now-last)/float64(rounds))
		}
		last = now
	}
	t.Logf("bytes per round, by window: %.1f", slopes)
	slices.Sort(slopes)
	return slopes[windows/2]
}

// Bytes per round. A lost tensor costs some 400, for its handle, its record and its elements; a lost C scalar or
// string 32 or more, and the round below makes ten of each kind; libtorch's error texts are longer than 100.
const tensorLeak, textLeak = 150, 100

// TestMemoryStaysFlat runs more than a million operations, forward and backward, and fails on the slope of memory.
func TestMemoryStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("a million operations")
	}
	const windows, rounds = 6, 2050 // of 62 operations
	params := NewParams()
	defer params.Free()
	w, err := params.Add("w", make([]float32, 16), 4, 4)
	must(t, err)
	_, err = params.Add("e", make([]float32, 32), 8, 4)
	must(t, err)
	adam, err := NewAdam(params, AdamConfig{LR: 1e-3})
	must(t, err)
	must(t, adam.SetRowwise("e"))
	got := slope(t, windows, rounds, func() {
		must(t, Do(func(s *Scope) error { // 14 operations
			x := adam.Lookup(s, "e", []int64{1, 2, 1})
			q := s.Reshape(x, 1, 1, 3, 4)
			y := s.Attention(q, q, q, nil, true, 0)
			y = s.LayerNorm(s.Linear(s.Reshape(y, 3, 4), w, nil), nil, nil, 1e-5)
			s.Backward(s.Mean(s.Square(y)))
			s.Grad(w)
			return nil
		}))
		_, err := adam.Step(0)
		must(t, err)
		must(t, NoGrad(func(s *Scope) error { // 48
			y := s.Zeros(Float32, 3, 4)
			for range 10 {
				s.Sub(func(s *Scope) {
					s.TopK(w, 2)
					s.MaskedFill(s.Gelu(w), s.GtS(w, 0), 1)
				})
			}
			s.CopyInto(y, s.Narrow(w, 0, 0, 3))
			s.AddInto(y, y)
			s.Float32s(s.Transpose(y, 0, 1))
			s.Keep(s.Cat(0, y, y)).Free()
			return nil
		}))
	})
	if got > tensorLeak {
		t.Errorf("memory grows by %.1f bytes per round", got)
	}
}

// TestFailuresDoNotLeak: libtorch's error texts are ours to free.
func TestFailuresDoNotLeak(t *testing.T) {
	got := slope(t, 5, 1000, func() {
		for _, f := range []func(s *Scope){
			func(s *Scope) { s.MatMul(s.Ones(Float32, 2, 3), s.Ones(Float32, 2, 3)) },
			func(s *Scope) { s.Gelu(s.Arange(2)) },
			func(s *Scope) { s.CopyInto(s.Ones(Float32, 2), s.Ones(Float32, 3)) },
		} {
			if err := NoGrad(func(s *Scope) error { f(s); return nil }); err == nil {
				t.Fatal("no error")
			}
		}
	})
	if got > textLeak {
		t.Errorf("memory grows by %.1f bytes per three failures", got)
	}
}

func TestThreads(t *testing.T) {
	before := Threads()
	defer SetThreads(before)
	SetThreads(2)
	SetThreads(0)
	if Threads() != 2 {
		t.Error(Threads())
	}
	var got [2]float64
	for i := range got {
		SetThreads(i + 1)
		must(t, NoGrad(func(s *Scope) error { // large enough to be divided among threads
			got[i] = s.Item(s.Sum(s.Ones(Float32, 300_000)))
			return nil
		}))
	}
	if got[0] != got[1] {
		t.Error(got)
	}
}
