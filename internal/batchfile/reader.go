package batchfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"recpie/internal/fault"
)

// Reader reads one input line by line. It is for one goroutine.
type Reader struct {
	file  string
	src   interface{ next() (Line, error) }
	err   error // ends the reading
	close []func() error
}

// Open opens an input, "-" for the standard input, in one of the formats. With the format "" the name's extension tells it, or else the
// content; for JSON lines the first object tells whether the file holds pairs or requests. Parquet needs to be read from both ends: from
// the standard input, or compressed, it goes through a temporary file.
func Open(path, format string) (*Reader, error) {
	if path == "-" {
		return newReader("stdin", os.Stdin, format)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "batchfile", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, fatal("name a file, or - for the standard input", "%s is a folder", path)
	}
	r, err := newReader(path, f, format)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	r.close = append(r.close, f.Close)
	return r, nil
}

// newReader reads an input from a stream. Closing the reader leaves the stream open.
func newReader(name string, in io.Reader, format string) (_ *Reader, err error) {
	r := &Reader{file: name}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	br, plain, err := r.decompress(in)
	if err != nil {
		return nil, err
	}
	if format, err = formatOf(name, format, br); err != nil {
		return nil, err
	}
	switch format {
	case Parquet:
		f, size, err := r.seekable(in, br, plain)
		if err != nil {
			return nil, err
		}
		p, err := newParquet(name, f, size)
		if err != nil {
			return nil, err
		}
		r.src, r.close = p, append(r.close, p.closeGroup)
		return r, nil
	case CSV:
		r.src, err = newCSV(name, br)
	case OpenAI:
		r.src = &jsonSource{file: name, kind: OpenAI, scan: &lineScanner{br: br}}
	case JSONL:
		r.src = &jsonSource{file: name, kind: JSONL, scan: &lineScanner{br: br}}
	default:
		r.src = &jsonSource{file: name, scan: &lineScanner{br: br}}
	}
	return r, err
}

// decompress unpacks gzip and zstd, known by their first bytes, and steps over a byte order mark. plain says that nothing was packed.
func (r *Reader) decompress(in io.Reader) (br *bufio.Reader, plain bool, err error) {
	br = bufio.NewReaderSize(in, 1<<16)
	head, _ := br.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, false, fatal("the file is damaged: copy it again", "%s: %w", r.file, err)
		}
		r.close = append(r.close, z.Close)
		br = bufio.NewReaderSize(z, 1<<16)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// One goroutine's worth, and no window beyond what zstd itself writes without being told to: the memory is bounded.
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, false, fatal("the file is damaged: copy it again", "%s: %w", r.file, err)
		}
		r.close = append(r.close, func() error { z.Close(); return nil })
		br = bufio.NewReaderSize(z, 1<<16)
	default:
		plain = true
	}
	switch head, _ = br.Peek(3); {
	case bytes.Equal(head, []byte("\ufeff")):
		_, _ = br.Discard(3)
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return nil, false, fatal("convert it, as iconv -f UTF-16 -t UTF-8 does", "%s is UTF-16", r.file)
	}
	return br, plain, nil
}

// formatOf returns the format of an input: the one asked for, or what its name or its first bytes say. "" is JSON lines of either kind.
func formatOf(name, format string, br *bufio.Reader) (string, error) {
	if format != "" {
		if !slices.Contains([]string{JSONL, CSV, Parquet, OpenAI}, format) {
			return "", fatal("use jsonl, csv, parquet or openai", "unknown input format %q", clip(format))
		}
		return format, nil
	}
	switch extension(name) {
	case ".jsonl", ".ndjson":
		return "", nil
	case ".csv":
		return CSV, nil
	case ".parquet", ".pq":
		return Parquet, nil
	}
	head, _ := br.Peek(1 << 12)
	first, _, _ := bytes.Cut(head, []byte{'\n'})
	switch text := bytes.TrimSpace(head); {
	case bytes.HasPrefix(head, []byte("PAR1")):
		return Parquet, nil
	case len(text) == 0, text[0] == '{', text[0] == '[':
		return "", nil
	case bytes.Contains(first, []byte(fieldUser)):
		return CSV, nil
	}
	return "", fatal("say which it is: jsonl, csv, parquet or openai", "the format of %s is unknown", name)
}

// extension returns the extension of a file's name in lower case, that of a compression left out.
func extension(name string) string {
	name = strings.ToLower(name)
	for _, ext := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, ext)
	}
	return filepath.Ext(name)
}

// seekable returns in itself when it is a file that was not packed, else br's content in a temporary file without a name.
func (r *Reader) seekable(in io.Reader, br *bufio.Reader, plain bool) (io.ReaderAt, int64, error) {
	if f, ok := in.(*os.File); ok && plain {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, info.Size(), nil
		}
	}
	f, err := os.CreateTemp("", "recpie-*.parquet")
	if err != nil {
		return nil, 0, fault.New(fault.Fatal, "batchfile", err)
	}
	r.close = append(r.close, f.Close)
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, fault.New(fault.Fatal, "batchfile", err)
	}
	n, err := io.Copy(f, br)
	if err != nil {
		return nil, 0, fatal("free some space in the folder for temporary files, or copy the file again", "%s: %w", r.file, err)
	}
	return f, n, nil
}

// Next returns the next line, or io.EOF after the last one. An error of the class fault.Item holds a *LineError: that line cannot be
// used, and the next call goes on behind it. Any other error ends the reading.
func (r *Reader) Next() (Line, error) {
	if r.err != nil {
		return Line{}, r.err
	}
	line, err := r.src.next()
	known := (*fault.Error)(nil)
	switch {
	case err == nil || fault.ClassOf(err) == fault.Item:
		return line, err
	case errors.Is(err, io.EOF) || errors.As(err, &known):
		r.err = err
	default: // the stream's own: a cut archive, a disk that fails
		r.err = fatal("the file is damaged or cannot be read: copy it again", "%s: %w", r.file, err)
	}
	return Line{}, r.err
}

// Close lets go of the file. The standard input stays open.
func (r *Reader) Close() error {
	var all []error
	for _, f := range slices.Backward(r.close) {
		all = append(all, f())
	}
	r.close = nil
	return errors.Join(all...)
}
