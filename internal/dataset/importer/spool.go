package importer

import (
	"os"

	"github.com/klauspost/compress/s2"

	"recpie/internal/fault"
)

// spool holds streams of bytes in one temporary file without a name: it vanishes with the process. A stream is cut into chunks at the ends of
// records, compressed one by one.
type spool struct {
	f     *os.File
	end   int64
	chunk int      // bytes of a chunk before compression
	open  [][]byte // what is not written yet, per stream
	at    [][]extent
	buf   []byte
}

type extent struct {
	offset int64
	length int
}

// newSpool makes a spool of n streams in folder dir.
func newSpool(dir string, n, chunk int) (*spool, error) {
	f, err := nameless(dir)
	if err != nil {
		return nil, err
	}
	return &spool{f: f, chunk: chunk, open: make([][]byte, n), at: make([][]extent, n)}, nil
}

// nameless makes a temporary file whose name is gone before anything is in it.
func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".import-*")
	if err != nil {
		return nil, fault.New(fault.Fatal, "import: spool", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Fatal, "import: spool", err)
	}
	return f, nil
}

// add appends one whole record to a stream.
func (s *spool) add(stream int, record []byte) error {
	if s.open[stream] = append(s.open[stream], record...); len(s.open[stream]) < s.chunk {
		return nil
	}
	return s.spill(stream)
}

func (s *spool) spill(stream int) error {
	if len(s.open[stream]) == 0 {
		return nil
	}
	s.buf = s2.Encode(s.buf[:cap(s.buf)], s.open[stream])
	if _, err := s.f.WriteAt(s.buf, s.end); err != nil {
		return fault.WithHint(fault.New(fault.Fatal, "import: spool", err), "the folder of --out needs room for the records as well as for the result")
	}
	s.at[stream] = append(s.at[stream], extent{s.end, len(s.buf)})
	s.end += int64(len(s.buf))
	s.open[stream] = s.open[stream][:0]
	return nil
}

// done writes what is open: from now on the streams can be read, several at once.
func (s *spool) done() error {
	for i := range s.open {
		if err := s.spill(i); err != nil {
			return err
		}
		s.open[i] = nil
	}
	s.buf = nil
	return nil
}

// each hands the chunks of a stream to fn, in their order. A chunk is only good during the call.
func (s *spool) each(stream int, fn func(chunk []byte) error) error {
	var packed, plain []byte
	for _, e := range s.at[stream] {
		if cap(packed) < e.length {
			packed = make([]byte, e.length)
		}
		_, err := s.f.ReadAt(packed[:e.length], e.offset)
		if err == nil {
			plain, err = s2.Decode(plain[:cap(plain)], packed[:e.length])
		}
		if err != nil {
			return fault.New(fault.Fatal, "import: spool", err)
		}
		if err := fn(plain); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) close() {
	if s != nil {
		_ = s.f.Close()
	}
}
