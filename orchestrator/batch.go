package orchestrator

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
	"recpie/internal/queue"
	"recpie/prompts"
)

// Ask is one row of a batch: an explanation of one polarity for one record.
type Ask struct {
	Record   int32
	Polarity prompts.Polarity
}

// Asks lists both explanations of every record, positive first.
func Asks(recs []int32) iter.Seq[Ask] {
	return func(yield func(Ask) bool) {
		for _, r := range recs {
			for _, pol := range prompts.Polarities {
				if !yield(Ask{r, pol}) {
					return
				}
			}
		}
	}
}

// Batch is a batch of explanations for the batch engine: it makes the rows to plan, and answers them.
type Batch struct {
	Writer
	Author Author
}

// Inputs renders the prompt of every ask, which gives its row the identity by which answers are reused, and keeps of it what finds it
// again: record and polarity.
func (b *Batch) Inputs(asks iter.Seq[Ask]) iter.Seq2[queue.Input, error] {
	return func(yield func(queue.Input, error) bool) {
		row := int64(0)
		for a := range asks {
			q, err := b.question(a.Record, a.Polarity, b.Author)
			in := queue.Input{Row: row, Identity: q.identity, Data: binary.AppendUvarint(nil, uint64(a.Record)<<1|uint64(a.Polarity))}
			if !yield(in, err) || err != nil {
				return
			}
			row++
		}
	}
}

// Do answers a chunk of rows, all at once: the pool of servers limits what is in flight.
func (b *Batch) Do(ctx context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	out := make([]queue.Result, len(rows))
	g, gctx := errgroup.WithContext(ctx)
	for i, row := range rows {
		g.Go(func() error {
			code, n := binary.Uvarint(row.Data)
			if n != len(row.Data) || code>>1 >= uint64(len(b.Work.Data.Records)) {
				return fault.Newf(fault.Fatal, "explain", "row %d names no record of the data", row.Row)
			}
			q, err := b.question(int32(code>>1), prompts.Polarity(code&1), b.Author)
			if err != nil {
				return err
			}
			if q.identity != row.Identity {
				return fault.WithHint(fault.Newf(fault.Fatal, "explain", "row %d has another prompt here than where it was planned", row.Row),
					"this worker's program or data differ from the planner's: use the same version everywhere")
			}
			a, err := b.answer(gctx, q)
			if err != nil {
				return fmt.Errorf("row %d: %w", row.Row, err)
			}
			out[i] = queue.Result{Row: row.Row, Text: a.text, Raw: a.raw, Reason: a.reason, Tokens: a.tokens}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return out, nil
}
