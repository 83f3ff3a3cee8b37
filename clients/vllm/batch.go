package vllm

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
)

// Item is the outcome of one request of a batch: a value or an error.
type Item[T any] struct {
	Value T
	Err   error
}

// GenerateAll sends the chats concurrently, at most limit at a time (limit <= 0: the client's own limit), and returns one item per
// request in their order. A fatal error stops the rest: those not yet answered carry that error. The other errors stay with their item.
func (c *Client) GenerateAll(ctx context.Context, reqs []ChatRequest, limit int) []Item[*Result] {
	return all(ctx, len(reqs), c.limit(limit), func(ctx context.Context, i int) (*Result, error) { return c.Chat(ctx, reqs[i]) })
}

// ScoreRequest is one call of Score.
type ScoreRequest struct {
	Model string
	IDs   []int32
	Tail  int
}

// ScoreAll scores token sequences concurrently, as GenerateAll generates.
func (c *Client) ScoreAll(ctx context.Context, reqs []ScoreRequest, limit int) []Item[[]float64] {
	return all(ctx, len(reqs), c.limit(limit), func(ctx context.Context, i int) ([]float64, error) {
		return c.Score(ctx, reqs[i].Model, reqs[i].IDs, reqs[i].Tail)
	})
}

func (c *Client) limit(n int) int {
	if n <= 0 {
		return c.http.MaxConcurrent()
	}
	return n
}

func all[T any](ctx context.Context, n, limit int, do func(context.Context, int) (T, error)) []Item[T] {
	out := make([]Item[T], n)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var g errgroup.Group
	g.SetLimit(limit)
	for i := range out {
		g.Go(func() error {
			if ctx.Err() != nil {
				out[i].Err = stopped(ctx)
				return nil
			}
			out[i].Value, out[i].Err = do(ctx, i)
			switch {
			case out[i].Err == nil:
			case ctx.Err() != nil && errors.Is(out[i].Err, context.Cause(ctx)):
				out[i].Err = stopped(ctx)
			case fault.ClassOf(out[i].Err) == fault.Fatal:
				stop(out[i].Err)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no error: it stays with its item
	return out
}

// stopped returns the fatal error that ended the batch, or the caller's cancellation as a transient error.
func stopped(ctx context.Context) error {
	cause := context.Cause(ctx)
	if cause == ctx.Err() || fault.ClassOf(cause) != fault.Fatal {
		return fault.New(fault.Transient, "vllm: batch", cause)
	}
	return cause
}
