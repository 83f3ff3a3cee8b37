package batchfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"

	"recpie/internal/fault"
)

// spoolBlock is how many texts are found together. Memory holds the place of each block alone.
const spoolBlock = 32

// Spool keeps texts in the order in which they come, in a temporary file without a name, and gives them back by number: millions of
// lines cost memory for the places of their blocks only. Texts are added by one goroutine, and read by many once all are there.
type Spool struct {
	file   *os.File
	w      *bufio.Writer
	n      int64
	end    int64   // bytes written
	blocks []int64 // where they begin

	mu    sync.Mutex
	block int64 // the one that texts holds
	texts [][]byte
}

// NewSpool makes an empty spool. Close gives its file back.
func NewSpool() (*Spool, error) {
	f, err := os.CreateTemp("", "recpie-*.spool")
	if err != nil {
		return nil, fault.New(fault.Fatal, "batchfile: spool", err)
	}
	if err := os.Remove(f.Name()); err != nil { // the kernel frees it with its last user, however that ends
		return nil, fault.New(fault.Fatal, "batchfile: spool", errors.Join(err, f.Close()))
	}
	return &Spool{file: f, w: bufio.NewWriterSize(f, 1<<16), block: -1}, nil
}

// Len is the number of texts.
func (s *Spool) Len() int64 { return s.n }

// Size is the number of bytes of all texts, their lengths included.
func (s *Spool) Size() int64 { return s.end }

// Add appends a text.
func (s *Spool) Add(text []byte) error {
	if s.n%spoolBlock == 0 {
		s.blocks = append(s.blocks, s.end)
	}
	var head [binary.MaxVarintLen64]byte
	size := head[:binary.PutUvarint(head[:], uint64(len(text)))]
	for _, b := range [][]byte{size, text} {
		n, err := s.w.Write(b)
		s.end += int64(n)
		if err != nil {
			return s.failed(err)
		}
	}
	s.n++
	return nil
}

// At returns text n. It stays as it is; the caller must not change it.
func (s *Spool) At(n int64) ([]byte, error) {
	if n < 0 || n >= s.n {
		return nil, fault.Newf(fault.Fatal, "batchfile: spool", "text %d of %d", n, s.n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := n / spoolBlock; b != s.block || n%spoolBlock >= int64(len(s.texts)) { // it may have grown since
		if err := s.load(b); err != nil {
			return nil, s.failed(err)
		}
	}
	return s.texts[n%spoolBlock], nil
}

// load reads a block.
func (s *Spool) load(b int64) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	end := s.end
	if b+1 < int64(len(s.blocks)) {
		end = s.blocks[b+1]
	}
	data := make([]byte, end-s.blocks[b])
	if _, err := s.file.ReadAt(data, s.blocks[b]); err != nil {
		return err
	}
	texts := make([][]byte, 0, spoolBlock)
	for len(data) > 0 {
		size, n := binary.Uvarint(data)
		if n <= 0 || size > uint64(len(data)-n) {
			return io.ErrUnexpectedEOF
		}
		end := n + int(size)
		texts = append(texts, data[n:end:end])
		data = data[end:]
	}
	s.block, s.texts = b, texts
	return nil
}

func (s *Spool) failed(err error) error {
	return fatal("free some space in the folder for temporary files", "spool: %w", err)
}

// Close removes what was kept. A nil spool is closed.
func (s *Spool) Close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}
