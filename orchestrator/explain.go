package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/internal/store"
	"recpie/prompts"
)

// Request asks a language model for N answers to one prompt.
type Request struct {
	Model       string    // served model or adapter version
	Text        string    // of the user's message
	Soft        []float32 // [rows, hidden] soft prompt before the text, nil for none
	SoftRows    int
	Profile     string // what is said of the user in words, for servers that take no soft rows (see TGI); else ""
	N           int
	Temperature float64
	Seed        int64
	MaxTokens   int
}

// Answer is what the model wrote, with the token ids as the server returned them.
type Answer struct {
	Prompt  []int32 // ids of the rendered prompt; soft rows stand as marker ids
	Choices []Choice
}

// Choice is one generated text.
type Choice struct {
	Text     string
	Tokens   []int32
	Logprobs []float32 // of Tokens, nats
	Finish   string    // stop or length
}

// Generator is a language model behind an inference server. It is called from many goroutines.
type Generator interface {
	Generate(ctx context.Context, r Request) (*Answer, error)
}

// Scorer tells how likely the model finds a continuation: log p of each of its tokens, in nats.
type Scorer interface {
	Score(ctx context.Context, model string, prompt, continuation []int32) ([]float32, error)
}

// Author is the version of the language model that writes a batch of explanations.
type Author struct {
	Model  string
	Digest string                                   // of weights and soft prompts: equal digests write equal texts
	Soft   func(user int32) ([]float32, int, error) // rows and their number; nil without soft prompts
	Ready  func(ctx context.Context) error          // asked before the first row is written: do the servers serve this version? nil: they do
}

// Explained holds the two explanations of every pair of Workspace.Pairs, "" where the model wrote nothing usable.
type Explained struct {
	Recs     []int32
	Text     [2][]string // by polarity, then as Recs
	Rejected map[string]int
	Tokens   int
}

// Explainer writes batches of explanations into the store: each row once, whatever dies in between.
type Explainer struct {
	Work        *Workspace
	Store       *store.Store
	Model       Generator
	Concurrency int
	MaxTokens   int
	Progress    func(total, done int) func(n int) // optional: told the size, returns what counts rows
}

// commitEvery bounds how long a finished explanation waits to be stored, commitRows how many wait at most.
const (
	commitEvery = 250 * time.Millisecond
	commitRows  = 128
)

// Explain writes both explanations of recs greedily as the batch called name. What the store holds already, from this batch or with
// the same identity from another, is not asked for again. An answer that no retry turned into a sentence is stored as a rejected
// row with its reason; a failing server ends the call with all finished rows stored.
func (x *Explainer) Explain(ctx context.Context, name string, recs []int32, who Author) (*Explained, error) {
	batch, err := x.Store.Batch(ctx, name, x.batchDigest(recs, who))
	if err != nil {
		return nil, err
	}
	have, err := x.Store.Have(ctx, batch)
	if err != nil {
		return nil, err
	}
	total := 2 * len(recs)
	if who.Ready != nil && len(have) < total {
		if err := who.Ready(ctx); err != nil {
			return nil, err
		}
	}
	count := func(int) {}
	if x.Progress != nil && len(have) < total {
		count = x.Progress(total, len(have))
	}
	rows := make(chan store.Row, 2*commitRows)
	var writers errgroup.Group
	wctx := context.WithoutCancel(ctx) // what was paid for is stored even while stopping
	writers.Go(func() error { return x.commit(wctx, batch, rows, count) })

	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(x.Concurrency)
	for i := range recs {
		for _, pol := range prompts.Polarities {
			row := int64(2*i) + int64(pol)
			if have[row] {
				continue
			}
			if gctx.Err() != nil {
				break
			}
			g.Go(func() error {
				r, err := x.write(gctx, row, recs[i], pol, who)
				if err == nil {
					rows <- r
				}
				return err
			})
		}
	}
	err = g.Wait()
	close(rows)
	if werr := writers.Wait(); werr != nil {
		return nil, werr
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return x.read(ctx, batch, recs)
}

// write makes one row: ask, reuse or generate, parse.
func (x *Explainer) write(ctx context.Context, n int64, rec int32, pol prompts.Polarity, who Author) (store.Row, error) {
	row := store.Row{Row: n, Record: rec, Polarity: int8(pol)}
	w := x.writer()
	q, err := w.question(rec, pol, who)
	if err != nil {
		return row, err
	}
	row.Identity = store.Identity(q.identity)
	if q.reason != "" {
		row.Reason = q.reason
		return row, nil
	}
	if old, ok, err := x.Store.Find(ctx, row.Identity); err != nil {
		return row, err
	} else if ok {
		row.Text, row.Raw, row.Reason, row.Tokens = old.Text, old.Raw, old.Reason, old.Tokens
		return row, nil
	}
	a, err := w.answer(ctx, q)
	row.Text, row.Raw, row.Reason, row.Tokens = a.text, a.raw, a.reason, a.tokens
	return row, err
}

func (x *Explainer) writer() *Writer {
	return &Writer{Work: x.Work, Model: x.Model, MaxTokens: x.MaxTokens}
}

// commit stores rows in whole transactions until the channel is closed.
//
// Failpoints: explain-before-commit (rows are generated, not stored), explain-after-commit (stored, not yet counted).
func (x *Explainer) commit(ctx context.Context, batch int64, rows <-chan store.Row, count func(int)) error {
	return inBatches(rows, func(pending []store.Row) error {
		failpoint.Hit("explain-before-commit")
		_, err := x.Store.Put(ctx, batch, pending)
		if err == nil {
			failpoint.Hit("explain-after-commit")
			count(len(pending))
		}
		return err
	})
}

// inBatches hands on what comes, at most commitRows at once and commitEvery late, until the channel is closed. After an error it takes what
// comes and does nothing with it.
func inBatches[T any](in <-chan T, put func([]T) error) error {
	var pending []T
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	var failed error
	flush := func() {
		if len(pending) > 0 && failed == nil {
			failed = put(pending)
		}
		pending = pending[:0]
	}
	for {
		select {
		case r, open := <-in:
			if !open {
				flush()
				return failed
			}
			if pending = append(pending, r); len(pending) >= commitRows {
				flush()
			}
		case <-tick.C:
			flush()
		}
	}
}

func (x *Explainer) read(ctx context.Context, batch int64, recs []int32) (*Explained, error) {
	out := &Explained{Recs: recs, Text: [2][]string{make([]string, len(recs)), make([]string, len(recs))}, Rejected: map[string]int{}}
	seen := 0
	err := x.Store.Rows(ctx, batch, func(r store.Row) error {
		if r.Row >= int64(2*len(recs)) || recs[r.Row/2] != r.Record || int8(r.Row%2) != r.Polarity {
			return fault.Newf(fault.Fatal, "explain", "row %d of the store is about another record", r.Row)
		}
		seen++
		out.Tokens += r.Tokens
		if r.Reason != "" {
			out.Rejected[r.Reason]++
			return nil
		}
		out.Text[r.Polarity][r.Row/2] = r.Text
		return nil
	})
	if err == nil && seen != 2*len(recs) {
		err = fault.Newf(fault.Fatal, "explain", "the store holds %d of %d rows", seen, 2*len(recs))
	}
	return out, err
}

func (x *Explainer) batchDigest(recs []int32, who Author) string {
	h := sha256.New()
	fmt.Fprintln(h, "recpie batch 1", x.Work.Split.Digest, x.Work.Train.Renderer.Digest(), x.Work.Final.Renderer.Digest(), who.Digest, x.MaxTokens)
	_ = binary.Write(h, binary.LittleEndian, recs)
	return hex.EncodeToString(h.Sum(nil))
}
