package encoder

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The cache file is a header of 64 bytes (magic, dimension, digest of the model) and records of one size: key (sha256 of the text),
// vector (little-endian float32), CRC-32C of both. Records are only appended, whole under an exclusive lock; what a crash has torn
// off fails its checksum or its length and is cut away by the next writer. Several processes may share the file.
const (
	magic      = "recpie vectors 1\n"
	headerSize = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type key [sha256.Size]byte

type cache struct {
	file  *os.File
	dim   int
	where map[key]int64 // offset of the record
	end   int64         // of the records read so far
}

func openCache(dir, digest string, dim int) (*cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "vectors-"+digest[:16]+".bin"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	c := &cache{file: f, dim: dim, where: make(map[key]int64), end: headerSize}
	if err := c.locked(func() error { return c.begin(digest) }); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return c, nil
}

func (c *cache) locked(fn func() error) error {
	if err := unix.Flock(int(c.file.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return errors.Join(fn(), unix.Flock(int(c.file.Fd()), unix.LOCK_UN))
}

// begin writes or checks the header and reads the records.
func (c *cache) begin(digest string) error {
	want := make([]byte, headerSize)
	copy(want, magic)
	binary.LittleEndian.PutUint32(want[len(magic):], uint32(c.dim))
	copy(want[len(magic)+4:], digest[:32])
	got := make([]byte, headerSize)
	n, err := c.file.ReadAt(got, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if n < headerSize { // new, or torn while it was made
		if !bytes.HasPrefix(want, got[:n]) {
			return errors.New("is not a vector cache")
		}
		if _, err := c.file.WriteAt(want, 0); err != nil {
			return err
		}
		return c.file.Truncate(headerSize)
	}
	if !bytes.Equal(got, want) {
		return errors.New("is a vector cache of another model")
	}
	return c.refresh()
}

func (c *cache) recordSize() int64 { return int64(sha256.Size + 4*c.dim + 4) }

// refresh reads what other processes have appended, and cuts off a torn end.
func (c *cache) refresh() error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	r := io.NewSectionReader(c.file, c.end, max(info.Size()-c.end, 0))
	record := make([]byte, c.recordSize())
	for {
		_, err := io.ReadFull(r, record)
		if err == io.EOF {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if err != nil || !sound(record) {
			return c.file.Truncate(c.end)
		}
		c.where[key(record[:sha256.Size])] = c.end
		c.end += c.recordSize()
	}
}

func sound(record []byte) bool {
	body := len(record) - 4
	return binary.LittleEndian.Uint32(record[body:]) == crc32.Checksum(record[:body], castagnoli)
}

// get reads a vector, nil when it is absent. A record damaged since it was indexed counts as absent.
func (c *cache) get(k key) ([]float32, error) {
	at, ok := c.where[k]
	if !ok {
		return nil, nil
	}
	record := make([]byte, c.recordSize())
	if _, err := c.file.ReadAt(record, at); err != nil {
		return nil, err
	}
	if !sound(record) || key(record[:sha256.Size]) != k {
		delete(c.where, k)
		return nil, nil
	}
	v := make([]float32, c.dim)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(record[sha256.Size+4*i:]))
	}
	return v, nil
}

// put appends vectors that are absent and syncs them to disk.
func (c *cache) put(keys []key, vectors [][]float32) error {
	return c.locked(func() error {
		if err := c.refresh(); err != nil {
			return err
		}
		var b []byte
		at := c.end
		added := make(map[key]int64)
		for i, k := range keys {
			if _, ok := c.where[k]; ok {
				continue
			}
			if _, ok := added[k]; ok {
				continue
			}
			start := len(b)
			b = append(b, k[:]...)
			for _, x := range vectors[i] {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
			added[k] = at + int64(start)
		}
		if _, err := c.file.WriteAt(b, at); err != nil {
			return errors.Join(err, c.file.Truncate(at))
		}
		if err := c.file.Sync(); err != nil {
			return err
		}
		for k, off := range added {
			c.where[k] = off
		}
		c.end = at + int64(len(b))
		return nil
	})
}
