package orchestrator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Look is what a batch would ask for a row.
type Look struct {
	Identity  [32]byte
	Text      string // of the prompt, with the line of words that stands for a soft prompt
	Beside    int    // tokens of the prompt that are not text: soft rows, ids
	Answer    int    // tokens that the answer has at most
	Unbounded bool   // Answer is UsualAnswer, for the request sets no bound
	Reason    string // why nothing is asked; else ""
}

// Look renders the prompt of a row without asking anything.
func (b *Batch) Look(a Ask) (Look, error) {
	q, err := b.question(a.Record, a.Polarity, b.Author)
	l := Look{Identity: q.identity, Text: q.request.Text, Beside: q.request.SoftRows, Answer: b.MaxTokens, Reason: q.reason}
	if q.request.Profile != "" {
		l.Text = q.request.Profile + "\n" + l.Text
	}
	return l, err
}

// Look reads call n without asking anything.
func (b *Requests) Look(n int64) (Look, error) {
	c, err := b.Calls(n)
	if err != nil {
		return Look{}, err
	}
	l := Look{Identity: b.identity(c)}
	l.Text, l.Beside = c.prompt()
	most, bounded := c.longest()
	l.Answer, l.Unbounded = most, !bounded
	return l, nil
}

// Probed is what a short trial of a batch gave. The answers are thrown away.
type Probed struct {
	Rows   int
	Tokens int
	Took   time.Duration
}

// Probe asks for rows of a batch as the batch would, inFlight at once, and starts none after limit.
func (b *Batch) Probe(ctx context.Context, asks []Ask, inFlight int, limit time.Duration) (Probed, error) {
	var p Probed
	var mu sync.Mutex
	var next atomic.Int64
	begun := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for range min(inFlight, len(asks)) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(asks) || time.Since(begun) > limit {
					return nil
				}
				q, err := b.question(asks[i].Record, asks[i].Polarity, b.Author)
				if err != nil {
					return err
				}
				if q.reason != "" {
					continue
				}
				a, err := b.answer(gctx, q)
				if err != nil {
					return err
				}
				mu.Lock()
				p.Rows++
				p.Tokens += a.tokens
				mu.Unlock()
			}
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		return p, err
	}
	if p.Took = time.Since(begun); p.Rows == 0 {
		return p, errors.New("no row has a prompt to be tried with")
	}
	return p, nil
}
