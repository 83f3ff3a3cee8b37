package orchestrator

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"

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
// again: record, polarity and user.
func (b *Batch) Inputs(asks iter.Seq[Ask]) iter.Seq2[queue.Input, error] {
	return func(yield func(queue.Input, error) bool) {
		row := int64(0)
		for a := range asks {
			q, err := b.question(a.Record, a.Polarity, b.Author)
			in := queue.Input{Row: row, Identity: q.identity}
			if err == nil {
				in.Data = encodeAsk(a, b.Work.Data.Users[b.Work.Data.Records[a.Record].User])
			}
			if !yield(in, err) || err != nil {
				return
			}
			row++
		}
	}
}

// encodeAsk keeps the user's id beside the numbers, so that a person's rows are found without the data.
func encodeAsk(a Ask, user string) []byte {
	return append(binary.AppendUvarint(nil, uint64(a.Record)<<1|uint64(a.Polarity)), user...)
}

func decodeAsk(data []byte) (a Ask, user string, ok bool) {
	code, n := binary.Uvarint(data)
	if n <= 0 || code>>1 > math.MaxInt32 {
		return a, "", false
	}
	return Ask{int32(code >> 1), prompts.Polarity(code & 1)}, string(data[n:]), true
}

// OfUser tells whether a row of a batch of explanations is about a user.
func OfUser(row queue.Input, user string) bool {
	_, id, ok := decodeAsk(row.Data)
	return ok && id == user
}

// Do answers a chunk of rows.
func (b *Batch) Do(ctx context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	return atOnce(ctx, rows, func(ctx context.Context, row queue.Input) (queue.Result, error) {
		ask, _, ok := decodeAsk(row.Data)
		if !ok || int(ask.Record) >= len(b.Work.Data.Records) {
			return queue.Result{}, fault.Newf(fault.Fatal, "explain", "row %d names no record of the data", row.Row)
		}
		q, err := b.question(ask.Record, ask.Polarity, b.Author)
		if err != nil {
			return queue.Result{}, err
		}
		if q.identity != row.Identity {
			return queue.Result{}, fault.WithHint(fault.Newf(fault.Fatal, "explain", "row %d has another prompt here than where it was planned", row.Row),
				"this worker's program or data differ from the planner's: use the same version everywhere")
		}
		a, err := b.answer(ctx, q)
		if err != nil {
			return queue.Result{}, fmt.Errorf("row %d: %w", row.Row, err)
		}
		return queue.Result{Row: row.Row, Text: a.text, Raw: a.raw, Reason: a.reason, Tokens: a.tokens}, nil
	})
}

// atOnce answers the rows of a chunk, all at once: the pool of servers limits what is in flight.
func atOnce(ctx context.Context, rows []queue.Input, answer func(context.Context, queue.Input) (queue.Result, error)) ([]queue.Result, error) {
	out := make([]queue.Result, len(rows))
	g, gctx := errgroup.WithContext(ctx)
	for i, row := range rows {
		g.Go(func() (err error) {
			out[i], err = answer(gctx, row)
			return err
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
