// Package torch is the house's only door to libtorch, through the C bindings of gotch (gotch/libtch; the higher
// package gotch/ts is not used: it leaks, frees by finalizer and ends the process on errors).
//
// A computation runs in a [Scope], which is an arena with a sticky error:
//
//	err := torch.NoGrad(func(s *torch.Scope) error {
//		x := s.Float32([]float32{1, 2, 3, 4}, 2, 2)
//		y := s.Softmax(s.MatMul(x, w), -1)
//		probs = s.Float32s(y)
//		return nil
//	})
//
// Every operation is a method of the scope. After the first failure all further operations do nothing and return
// nil, and the scope's function returns that failure, with the operation's name and the shapes of its operands. So a
// computation is written without a check per line; where Go code looks at a result in between (a shape, a value to
// branch on), it must allow for nil and zero: [Tensor.Dim] and the reading functions return zero values after a failure.
//
// All tensors made in a scope are freed at its end, those of [Scope.Sub] at the end of the sub-scope; [Scope.Keep]
// takes one out, and then its holder frees it with [Tensor.Free]. Nothing depends on the garbage collector.
//
// A scope belongs to the goroutine that runs its function, which stays on one OS thread meanwhile, because libtorch
// keeps errors, the autograd switch and the OpenMP team per thread. Several goroutines may run scopes at the same time
// and may read the same kept tensors.
package torch
