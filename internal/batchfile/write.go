package batchfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/term"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// Output is where records are written, and how.
type Output struct {
	Path   string // "-" for the standard output
	Format string // JSONL or Parquet; "": by the path's extension, JSONL for the standard output
	Live   bool   // JSON lines go into the file at once, each in one piece, and not into a new one that takes its place at the end
}

// WriteRows writes explanations, a sentence per line or row. JSON lines are packed when the path ends with .gz or .zst. fill hands over the
// rows in their final order. The file appears when fill is done, and is as it was when fill or put fails, unless it is written live; the
// standard output and pipes are streamed to.
func WriteRows(to Output, fill func(put func(Row) error) error) error {
	return write(to, func(put func(rowRecord) error) error {
		return fill(func(r Row) error {
			rec, err := r.record()
			if err != nil {
				return err
			}
			return put(rec)
		})
	})
}

// WritePairs is WriteRows with both sentences of a pair in one line or row.
func WritePairs(to Output, fill func(put func(Pair) error) error) error {
	return write(to, func(put func(Pair) error) error {
		return fill(func(p Pair) error {
			if err := p.check(); err != nil {
				return err
			}
			return put(p)
		})
	})
}

// WriteReplies is WriteRows for the rows of requests.
func WriteReplies(to Output, fill func(put func(Reply) error) error) error {
	return write(to, func(put func(Reply) error) error {
		return fill(func(r Reply) error {
			if err := checkText(r.Row, r.ID, r.Text, r.Reason, r.Finish, r.Model); err != nil {
				return err
			}
			return put(r)
		})
	})
}

// sink takes records and, at the end, writes out what it still holds.
type sink[T any] interface {
	put(T) error
	close() error
}

func write[T interface{ size() int }](to Output, fill func(put func(T) error) error) error {
	format, err := to.format()
	if err != nil {
		return err
	}
	return to.deliver(format == Parquet, func(w io.Writer) error {
		s := sink[T](&jsonSink[T]{w: w})
		if format == Parquet {
			s = newParquetSink[T](w)
		}
		if err := fill(s.put); err != nil {
			return err
		}
		return s.close()
	})
}

func (o Output) format() (string, error) {
	switch format := o.Named(); format {
	case JSONL, Parquet:
		return format, nil
	case "":
		return "", fatal("end the name with .jsonl or .parquet, or say which it is", "the format of %s is unknown", o.Path)
	default:
		return "", fatal("use jsonl or parquet", "unknown output format %q", clip(format))
	}
}

// Check says what is wrong with the format, which is better known before the work than after.
func (o Output) Check() error {
	_, err := o.format()
	return err
}

// Named returns the format, or that which the path's extension tells, "" when it tells none.
func (o Output) Named() string {
	if o.Format != "" {
		return o.Format
	}
	switch ext := extension(o.Path); {
	case ext == ".parquet" || ext == ".pq":
		return Parquet
	case o.Path == "-" || ext == ".jsonl" || ext == ".ndjson":
		return JSONL
	}
	return ""
}

// deliver runs fill on a stream to the path: a file that is replaced as a whole or, live, written in place, the standard output, or a pipe
// or device.
func (o Output) deliver(binary bool, fill func(io.Writer) error) error {
	live := o.Live && !binary // Parquet is nothing until its end
	stream := func(to io.Writer) error {
		w := bufio.NewWriterSize(to, 1<<16)
		if !live {
			to = w
		}
		pack, err := packer(o.Path, binary, to)
		if err != nil {
			return err
		}
		if err := fill(pack); err != nil {
			return err
		}
		if err := pack.Close(); err != nil {
			return fmt.Errorf("batchfile: %w", err)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("batchfile: %w", err)
		}
		return nil
	}
	path := o.Path
	if path == "-" {
		if binary && term.IsTerminal(int(os.Stdout.Fd())) {
			return fatal("name a file, or send the output to one", "Parquet is nothing for a terminal")
		}
		return stream(os.Stdout)
	}
	perm := os.FileMode(0o644)
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fault.New(fault.Fatal, "batchfile", err)
	case info.IsDir():
		return fatal("name a file in it", "%s is a folder", path)
	case !info.Mode().IsRegular(): // a pipe or a device is written to: a file in its place would not reach its reader
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fault.New(fault.Fatal, "batchfile", err)
		}
		return errors.Join(stream(f), f.Close())
	default:
		if path, err = filepath.EvalSymlinks(path); err != nil { // what a link points to is replaced, not the link
			return fault.New(fault.Fatal, "batchfile", err)
		}
		perm = info.Mode().Perm()
	}
	if !live {
		return durable.Write(path, perm, stream)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return fault.New(fault.Fatal, "batchfile", err)
	}
	err = stream(f)
	if err == nil {
		err = fault.New(fault.Fatal, "batchfile", f.Sync())
	}
	return errors.Join(err, fault.New(fault.Fatal, "batchfile", f.Close()))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// packer returns the compression that the name of a text file asks for. Parquet is compressed inside.
func packer(path string, binary bool, w io.Writer) (io.WriteCloser, error) {
	switch name := strings.ToLower(path); {
	case binary:
	case strings.HasSuffix(name, ".gz"):
		return gzip.NewWriter(w), nil
	case strings.HasSuffix(name, ".zst"):
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nopCloser{w}, nil
}

// jsonSink writes a JSON object per line.
type jsonSink[T any] struct {
	w   io.Writer
	buf bytes.Buffer
	out []byte
}

func (s *jsonSink[T]) put(v T) error {
	s.buf.Reset()
	enc := json.NewEncoder(&s.buf)
	enc.SetEscapeHTML(false) // nothing here is HTML
	if err := enc.Encode(v); err != nil {
		return fault.New(fault.Item, "batchfile", err)
	}
	s.out = escapeControls(s.out[:0], s.buf.Bytes())
	if _, err := s.w.Write(s.out); err != nil {
		return fmt.Errorf("batchfile: %w", err)
	}
	return nil
}

func (s *jsonSink[T]) close() error { return nil }

// escapeControls appends a line of JSON to out. Characters that steer terminals or turn the direction of text (DEL, C1, bidirectional
// marks) are written as \uXXXX: they can stand in strings only, and say the same there. encoding/json does so with those below U+0020.
func escapeControls(out, line []byte) []byte {
	from := 0
	for i := 0; i < len(line); {
		if line[i] < 0x7f {
			i++
			continue
		}
		r, n := utf8.DecodeRune(line[i:])
		if r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			out = fmt.Appendf(append(out, line[from:i]...), `\u%04x`, r)
			from = i + n
		}
		i += n
	}
	return append(out, line[from:]...)
}
