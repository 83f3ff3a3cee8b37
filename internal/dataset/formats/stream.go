package formats

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

const (
	maxExamples = 10 // broken rows of a file that its report describes
	alwaysBorne = 10 // broken rows of a file that never end the reading
)

// status says what became of a row.
type status int

const (
	kept    status = iota
	unrated        // no rating: not a record, not an error
	skipped        // not asked for
)

// parser reads one row; line is the row's first line in the file, from 1, ordinal the row's number among the data lines, from 0. A parser
// belongs to one worker and may keep scratch memory.
type parser[T any] func(row []byte, line, ordinal int) (T, status, *dataset.RowError)

// rules say how the rows of a file are told apart.
type rules struct {
	quotes bool // a line break inside double quotes belongs to the row
	header bool // the first row names the columns; begin gets it
	begin  func(header []byte) error
	latin1 bool // bytes are ISO 8859-1 characters
}

// block is a run of whole rows.
type block struct {
	data   []byte
	line   int // of its first row, from 1
	header int // lines before the first data row
}

// outcome is what a worker made of a block.
type outcome[T any] struct {
	rows   []T
	report dataset.FileReport
	bad    []rejected
}

type rejected struct {
	err dataset.RowError
	raw []byte
}

// stream reads a file: one goroutine cuts it into blocks, workers parse them, and the blocks' rows reach yield in the file's order.
func stream[T any](ctx context.Context, path string, opts Options, rule rules, fresh func() parser[T], report *dataset.FileReport, yield func([]T) error) error {
	opts = opts.withDefaults()
	in, err := openFile(path, opts.Progress)
	if err != nil {
		return err
	}
	defer in.Close()
	*report = dataset.FileReport{Path: path, Reasons: map[string]int{}}
	type job struct {
		block
		done chan outcome[T]
	}
	spare := make(spares, 3*opts.Workers)
	g, ctx := errgroup.WithContext(ctx)
	work, order := make(chan job), make(chan job, 2*opts.Workers)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return cut(in, path, opts, rule, spare, func(b block) error {
			j := job{b, make(chan outcome[T], 1)}
			for _, to := range []chan job{order, work} {
				select {
				case to <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range opts.Workers {
		g.Go(func() error {
			parse, rows := fresh(), 0
			for j := range work {
				o := parseBlock(path, j.block, opts, rule, parse, rows)
				rows = len(o.rows)
				spare.put(j.data)
				j.done <- o
			}
			return nil
		})
	}
	g.Go(func() error {
		for j := range order {
			var o outcome[T]
			select {
			case o = <-j.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := add(report, &o.report, o.bad, opts); err != nil {
				return err
			}
			if len(o.rows) > 0 {
				if err := yield(o.rows); err != nil {
					return err
				}
			}
		}
		return tooBroken(report, opts.MaxBroken, 1)
	})
	return g.Wait()
}

// parseBlock parses the rows of a block, of which there may be as many as expected. Nothing of what it returns refers to the block.
func parseBlock[T any](path string, b block, opts Options, rule rules, parse parser[T], expected int) outcome[T] {
	o := outcome[T]{rows: make([]T, 0, expected+expected/8), report: dataset.FileReport{Reasons: map[string]int{}}}
	line := b.line
	for data := b.data; len(data) > 0; {
		row, lines, rest := nextRow(data, rule.quotes)
		at := line
		row = bytes.TrimSuffix(row, []byte("\r"))
		if len(bytes.TrimSpace(row)) == 0 {
			data, line = rest, line+lines
			continue
		}
		var value T
		var st status
		var bad *dataset.RowError
		if len(row) > opts.MaxRecord {
			bad = &dataset.RowError{Reason: fmt.Sprintf("the row is longer than %d bytes", opts.MaxRecord), Remedy: "split the row, or allow longer rows"}
		} else {
			if rule.latin1 {
				row = fromLatin1(row)
			}
			value, st, bad = parse(row, at, at-1-b.header)
		}
		if bad != nil && lines > 1 && (bad.Column > 0 || len(row) > opts.MaxRecord) { // a quote without its partner costs a line, not the rest
			row, lines, rest = nextRow(data, false)
			row = bytes.TrimSuffix(row, []byte("\r"))
			bad = &dataset.RowError{Column: bytes.LastIndexByte(row, '"') + 1, Reason: "a quoted field does not end as it should", Remedy: "double the quotes inside the field and close it"}
		}
		data, line = rest, line+lines
		o.report.Rows++
		switch {
		case bad != nil:
			bad.File, bad.Line = path, at
			bad.Value = shorten(bad.Value, 80)
			o.bad = append(o.bad, rejected{*bad, bytes.Clone(row[:min(len(row), 1<<16)])})
			o.report.Broken++
		case st == unrated:
			o.report.Unrated++
		case st == skipped:
			o.report.Skipped++
		default:
			o.report.Kept++
			o.rows = append(o.rows, value)
		}
	}
	return o
}

func unreadable(path string, err error) error {
	return fault.WithHint(fault.New(fault.Fatal, "", fmt.Errorf("%s: %w", path, err)), "the file may be cut short: fetch it again")
}

// add sums a block's report up and hands its broken rows on.
func add(to, from *dataset.FileReport, bad []rejected, opts Options) error {
	to.Rows, to.Kept, to.Unrated, to.Skipped, to.Broken = to.Rows+from.Rows, to.Kept+from.Kept, to.Unrated+from.Unrated, to.Skipped+from.Skipped, to.Broken+from.Broken
	for _, b := range bad {
		to.Reasons[b.err.Reason]++
		if len(to.Examples) < maxExamples {
			to.Examples = append(to.Examples, b.err)
		}
		if opts.Reject != nil {
			opts.Reject(b.err, b.raw)
		}
	}
	return tooBroken(to, opts.MaxBroken, 100_000)
}

// tooBroken is an error once so many rows are broken that the file must be in doubt; before enough rows are read it waits.
func tooBroken(r *dataset.FileReport, share float64, enough int) error {
	if r.Broken <= alwaysBorne || r.Rows < enough || float64(r.Broken) <= share*float64(r.Rows) {
		return nil
	}
	err := fault.Newf(fault.Fatal, "", "%s: %d of %d rows are broken; the first: %v", r.Path, r.Broken, r.Rows, &r.Examples[0])
	return fault.WithHint(err, "is it a file of this format? else mend it, or bear more broken rows with --max-broken")
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.MaxBroken <= 0 {
		o.MaxBroken = .05
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = 1 << 20
	}
	if o.block <= 0 {
		o.block = 1 << 20
	}
	return o
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func fromLatin1(b []byte) []byte {
	high := 0
	for _, c := range b {
		if c >= 0x80 {
			high++
		}
	}
	if high == 0 {
		return b
	}
	out := make([]byte, 0, len(b)+high)
	for _, c := range b {
		out = append(out, string(rune(c))...)
	}
	return out
}
