package main

import (
	"math/rand/v2"
	"time"

	"recpie/internal/torch"
)

// measure is one case: it runs its operation n times and returns the CPU time of that, without the preparation.
type measure struct {
	name string
	run  func(n int) (time.Duration, error)
}

// inScope is a single operation without autograd: setup makes the operands, and what it returns is timed.
func inScope(name string, setup func(s *torch.Scope) func(s *torch.Scope)) measure {
	return measure{name, func(n int) (took time.Duration, err error) {
		err = torch.NoGrad(func(s *torch.Scope) error {
			op := setup(s)
			took, err = timed(func() error {
				for range n {
					s.Sub(op)
				}
				return s.Err()
			})
			return err
		})
		return took, err
	}}
}

func cases(params *bench) []measure {
	return []measure{
		inScope("add 8x8", func(s *torch.Scope) func(*torch.Scope) {
			a, b := s.Randn(8, 8), s.Randn(8, 8)
			return func(s *torch.Scope) { s.Add(a, b) }
		}),
		inScope("matmul 8x8", func(s *torch.Scope) func(*torch.Scope) {
			a, b := s.Randn(8, 8), s.Randn(8, 8)
			return func(s *torch.Scope) { s.MatMul(a, b) }
		}),
		inScope("matmul 256x256", func(s *torch.Scope) func(*torch.Scope) {
			a, b := s.Randn(256, 256), s.Randn(256, 256)
			return func(s *torch.Scope) { s.MatMul(a, b) }
		}),
		inScope("linear 24x32", func(s *torch.Scope) func(*torch.Scope) {
			x, w := s.Randn(24, 32), s.Randn(32, 32)
			return func(s *torch.Scope) { s.Linear(x, w, nil) }
		}),
		inScope("layer norm 64x256", func(s *torch.Scope) func(*torch.Scope) {
			x, w := s.Randn(64, 256), s.Ones(torch.Float32, 256)
			return func(s *torch.Scope) { s.LayerNorm(x, w, nil, 1e-5) }
		}),
		inScope("gelu 64x256", func(s *torch.Scope) func(*torch.Scope) {
			x := s.Randn(64, 256)
			return func(s *torch.Scope) { s.Gelu(x) }
		}),
		inScope("softmax 64x256", func(s *torch.Scope) func(*torch.Scope) {
			x := s.Randn(64, 256)
			return func(s *torch.Scope) { s.Softmax(x, -1) }
		}),
		inScope("embedding 1024 rows", func(s *torch.Scope) func(*torch.Scope) {
			table, ids := s.Randn(5000, 64), s.Arange(1024)
			return func(s *torch.Scope) { s.Embedding(table, ids) }
		}),
		inScope("attention 8x8x160x32 causal", func(s *torch.Scope) func(*torch.Scope) {
			q := s.Randn(8, 8, 160, 32)
			return func(s *torch.Scope) { s.Attention(q, q, q, nil, true, 0) }
		}),
		{"attention with backward", func(n int) (took time.Duration, err error) {
			err = torch.Do(func(s *torch.Scope) error {
				var x [3]*torch.Tensor
				for i := range x {
					x[i] = s.RequireGrad(s.Randn(8, 8, 160, 32))
				}
				took, err = timed(func() error {
					for range n {
						s.Sub(func(s *torch.Scope) {
							for _, t := range x {
								s.ZeroGrad(t)
							}
							s.Backward(s.Sum(s.Attention(x[0], x[1], x[2], nil, true, 0)))
						})
					}
					return s.Err()
				})
				return err
			})
			return took, err
		}},
		inScope("log prob 256x8192", func(s *torch.Scope) func(*torch.Scope) {
			logits, targets := s.Randn(256, 8192), s.Arange(256)
			return func(s *torch.Scope) { s.LogProbOf(logits, targets) }
		}),
		{"train step, 512k weights", repeated(params.dense)},
		{"train step, peer with fused Adam", repeated(params.dense)},
		{"train step, table of 5k rows", repeated(func() error { return params.rowwise(params.small, params.near) })},
		{"train step, table of 500k rows", repeated(func() error { return params.rowwise(params.large, params.spread) })},
	}
}

// repeated is a case without preparation.
func repeated(f func() error) func(n int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		return timed(func() error {
			for range n {
				if err := f(); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// bench holds the models of the training steps.
type bench struct {
	params        *torch.Params
	adam          *torch.Adam
	first, second []int64
	y             []float32
	small, large  sparse
	near, spread  []int64
}

// sparse is a table with a row-wise optimiser and one linear layer.
type sparse struct {
	params *torch.Params
	adam   *torch.Adam
}

func newBench() (*bench, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	b := &bench{params: torch.NewParams(), y: make([]float32, 256)}
	b.small.params, b.large.params = torch.NewParams(), torch.NewParams()
	for i := range int64(256) {
		b.first = append(b.first, i*25%7000)
		b.second = append(b.second, i*25%7000+1)
		b.near = append(b.near, i*19)
		b.spread = append(b.spread, i*1953)
		b.y[i] = rng.Float32()
	}
	for _, p := range []struct {
		set   *torch.Params
		name  string
		shape [2]int64
	}{
		{b.params, "table", [2]int64{7000, 64}}, {b.params, "w1", [2]int64{256, 128}}, {b.params, "w2", [2]int64{128, 256}},
		{b.params, "w3", [2]int64{1, 128}}, {b.small.params, "rows", [2]int64{5000, 64}}, {b.small.params, "w", [2]int64{1, 64}},
		{b.large.params, "rows", [2]int64{500_000, 64}}, {b.large.params, "w", [2]int64{1, 64}},
	} {
		if _, err := p.set.Add(p.name, normal(int(p.shape[0]*p.shape[1])), p.shape[:]...); err != nil {
			return nil, err
		}
	}
	var err error
	if b.adam, err = torch.NewAdam(b.params, torch.AdamConfig{LR: 1e-3}); err != nil {
		return nil, err
	}
	for _, t := range []*sparse{&b.small, &b.large} {
		if t.adam, err = torch.NewAdam(t.params, torch.AdamConfig{LR: 1e-3}); err != nil {
			return nil, err
		}
		if err = t.adam.SetRowwise("rows"); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// dense is the training step of a perceptron over two embeddings.
func (b *bench) dense() error {
	p := b.params
	err := torch.Do(func(s *torch.Scope) error {
		x := s.Cat(1, s.Embedding(p.Get("table"), s.Int64(b.first, 256)), s.Embedding(p.Get("table"), s.Int64(b.second, 256)))
		h := s.Relu(s.Linear(s.Relu(s.Linear(x, p.Get("w1"), nil)), p.Get("w2"), nil))
		s.Backward(s.MSE(s.Squeeze(s.Linear(h, p.Get("w3"), nil), 1), s.Float32(b.y, 256)))
		return nil
	})
	if err != nil {
		return err
	}
	_, err = b.adam.Step(0)
	return err
}

// rowwise is a step over a table of which few rows are used.
func (b *bench) rowwise(t sparse, rows []int64) error {
	err := torch.Do(func(s *torch.Scope) error {
		s.Backward(s.Mean(s.Square(s.Linear(t.adam.Lookup(s, "rows", rows), t.params.Get("w"), nil))))
		return nil
	})
	if err != nil {
		return err
	}
	_, err = t.adam.Step(0)
	return err
}
