package formats

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

const (
	blockSize   = 1 << 20 // bytes of whole rows that a parser gets at a time
	maxExamples = 10      // broken rows of a file that its report describes
	alwaysBorne = 10      // broken rows of a file that never end the reading
)

// status says what became of a row.
type status int

const (
	kept    status = iota
	unrated        // no rating: not a record, not an error
	skipped        // not asked for
	empty          // a blank line: no row at all
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
	g, ctx := errgroup.WithContext(ctx)
	work, order := make(chan job), make(chan job, 2*opts.Workers)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return cut(in, path, opts.MaxRecord, rule, func(b block) error {
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
			parse := fresh()
			for j := range work {
				j.done <- parseBlock(path, j.block, opts, rule, parse)
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

func parseBlock[T any](path string, b block, opts Options, rule rules, parse parser[T]) outcome[T] {
	o := outcome[T]{report: dataset.FileReport{Reasons: map[string]int{}}}
	line := b.line
	for data := b.data; len(data) > 0; {
		row, lines, rest := nextRow(data, rule.quotes)
		data = rest
		at := line
		line += lines
		row = bytes.TrimSuffix(row, []byte("\r"))
		if len(bytes.TrimSpace(row)) == 0 {
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
		if st == empty && bad == nil {
			continue
		}
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

// nextRow cuts the first row off data; lines is how many lines it takes.
func nextRow(data []byte, quotes bool) (row []byte, lines int, rest []byte) {
	from := 0
	for {
		n := bytes.IndexByte(data[from:], '\n')
		if n < 0 {
			return data, lines + 1, nil
		}
		lines++
		end := from + n
		if !quotes || bytes.Count(data[:end], quote)%2 == 0 {
			return data[:end], lines, data[end+1:]
		}
		from = end + 1
	}
}

var quote = []byte{'"'}

// cut reads whole rows into blocks. A row longer than limit plus a block is handed on in the length that was read, so that it is told as
// broken, and its rest is dropped.
func cut(in io.Reader, path string, limit int, rule rules, emit func(block) error) error {
	r := bufio.NewReaderSize(in, 1<<16)
	if bom, _ := r.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
	}
	line, header := 1, 0
	var rest []byte
	for {
		buf := make([]byte, len(rest)+blockSize)
		copy(buf, rest)
		n, err := io.ReadFull(r, buf[len(rest):])
		data := buf[:len(rest)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n < blockSize && ended(r)
		if err != nil && !last {
			return unreadable(path, err)
		}
		if rule.header && header == 0 && len(data) > 0 {
			row, lines, after := nextRow(data, rule.quotes)
			if err := rule.begin(bytes.TrimSuffix(row, []byte("\r"))); err != nil {
				return err
			}
			header, line, data = lines, line+lines, after
		}
		end := len(data)
		if !last {
			end = lastRow(data, rule.quotes)
		}
		if end == 0 && len(data) > limit+blockSize { // one endless row
			if err := emit(block{data, line, header}); err != nil {
				return err
			}
			skippedLines, err := skipRow(r)
			if err != nil && !errors.Is(err, io.EOF) {
				return unreadable(path, err)
			}
			line, rest = line+bytes.Count(data, []byte("\n"))+skippedLines, nil
			if errors.Is(err, io.EOF) {
				return nil
			}
			continue
		}
		if end > 0 {
			if err := emit(block{data[:end], line, header}); err != nil {
				return err
			}
			line += bytes.Count(data[:end], []byte("\n"))
		}
		if last {
			return nil
		}
		rest = data[end:]
	}
}

// ended tells the end of the input from an error that cuts it short.
func ended(r *bufio.Reader) bool {
	_, err := r.Peek(1)
	return errors.Is(err, io.EOF)
}

func skipRow(r *bufio.Reader) (lines int, err error) {
	for {
		_, err := r.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return 1, err
		}
	}
}

// lastRow returns where the last whole row of data ends, its line break included; 0 when there is none.
func lastRow(data []byte, quotes bool) int {
	end := bytes.LastIndexByte(data, '\n')
	if !quotes {
		return end + 1
	}
	count := bytes.Count(data[:end+1], quote)
	for end >= 0 && count%2 == 1 {
		before := bytes.LastIndexByte(data[:end], '\n')
		count -= bytes.Count(data[before+1:end+1], quote)
		end = before
	}
	return end + 1
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

// file is an opened raw file, decompressed.
type file struct {
	io.Reader
	close []func() error
}

// Close closes the decompressor and the file.
func (f *file) Close() error {
	var errs []error
	for _, c := range f.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// counted reports how far a file has been read.
type counted struct {
	f    *os.File
	done atomic.Int64
	tell func(done int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.f.Read(p)
	if c.tell != nil && n > 0 {
		c.tell(c.done.Add(int64(n)))
	}
	return n, err
}

// openFile opens a plain, gzip or zstd file by its first bytes. Archives of several files are refused.
func openFile(path string, progress func(string, int64, int64)) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "", err)
	}
	out := &file{close: []func() error{f.Close}}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		_ = f.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is a folder", path), "name the files in it")
	}
	src := &counted{f: f}
	if progress != nil {
		src.tell = func(done int64) { progress(path, done, info.Size()) }
	}
	r := bufio.NewReaderSize(src, 1<<18)
	head, _ := r.Peek(512)
	refuse := func(what, how string) (*file, error) {
		_ = f.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is a %s archive", path, what), how)
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return refuse("zip", "unpack it (unzip) and name the files in it")
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return refuse("tar", "unpack it (tar xf) and name the files in it")
	case bytes.HasPrefix(head, []byte("\x80\x04")) || bytes.HasPrefix(head, []byte("\x80\x03")) || bytes.HasPrefix(head, []byte("\x80\x02")):
		_ = f.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is a Python pickle, which is a program and is never loaded", path), "docs/formats.md says how to turn it into JSON lines safely")
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			_ = f.Close()
			return nil, unreadable(path, err)
		}
		out.Reader, out.close = z, append([]func() error{z.Close}, out.close...)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			_ = f.Close()
			return nil, unreadable(path, err)
		}
		out.Reader, out.close = z, append([]func() error{func() error { z.Close(); return nil }}, out.close...)
	default:
		out.Reader = r
	}
	return out, nil
}
