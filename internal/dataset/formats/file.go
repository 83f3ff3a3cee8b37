package formats

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"recpie/internal/fault"
)

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
