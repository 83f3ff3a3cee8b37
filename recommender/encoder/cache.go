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

	"recpie/internal/failpoint"
)

// The cache file is a header of 64 bytes (magic, dimension, digest of the model) and records of one size: key (sha256 of the text),
// vector (little-endian float32), CRC-32C of both. Records are only appended, whole under an exclusive lock; what a crash has torn
// off at the end fails its checksum or its length and is cut away by the next writer. Several processes may share the file.
//
// Vectors are read from the mapped file and found by a mapped index: a cache of any size needs no heap.
const (
	magic      = "recpie vectors 1\n"
	headerSize = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type key [sha256.Size]byte

func (k key) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

type cache struct {
	mapped // the records
	dim    int
	index  index
}

func openCache(dir, digest string, dim int) (*cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "vectors-"+digest[:16])
	f, err := os.OpenFile(path+".bin", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	c := &cache{mapped: mapped{file: f}, dim: dim, index: index{path: path + ".idx"}}
	if err := c.locked(func() error { return c.begin(digest) }); err != nil {
		_ = c.close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return c, nil
}

func (c *cache) close() error {
	return errors.Join(c.index.close(), c.release(), c.file.Close())
}

func (c *cache) locked(fn func() error) error {
	if err := unix.Flock(int(c.file.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return errors.Join(guarded(fn), unix.Flock(int(c.file.Fd()), unix.LOCK_UN))
}

// begin writes or checks the header and indexes the records.
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
		if err := c.file.Truncate(headerSize); err != nil {
			return err
		}
	} else if !bytes.Equal(got, want) {
		return errors.New("is a vector cache of another model")
	}
	return c.refresh()
}

func (c *cache) recordSize() int64 { return int64(sha256.Size + 4*c.dim + 4) }

// refresh takes over what other processes have appended or made anew, indexes what is not, and cuts off a torn end. The caller holds the lock.
func (c *cache) refresh() error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	if !c.index.current() || c.index.indexed() > info.Size() {
		ok, err := c.index.open(c.file, info.Size())
		if err != nil {
			return err
		}
		if !ok || (c.index.indexed()-headerSize)%c.recordSize() != 0 {
			if err := c.index.create(c.file, firstSlots, nil); err != nil {
				return err
			}
		}
	}
	err = c.extend(info.Size())
	if errors.Is(err, errFull) {
		return c.reindex(info.Size())
	}
	return err
}

// reindex makes the index anew: it had fewer empty slots than it said.
func (c *cache) reindex(size int64) error {
	if err := c.index.create(c.file, firstSlots, nil); err != nil {
		return err
	}
	return c.extend(size)
}

// extend indexes the records up to size. A damaged record is left out; damaged ones at the end are what a crash has torn, and are cut off.
func (c *cache) extend(size int64) error {
	end := c.index.indexed()
	r := io.NewSectionReader(c.file, end, max(size-end, 0))
	record := make([]byte, c.recordSize())
	sure := end // end of the last sound record
	for {
		_, err := io.ReadFull(r, record)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
		if sound(record) {
			if err := c.add(key(record[:sha256.Size]), end); err != nil {
				return err
			}
			sure = end + c.recordSize()
		}
		end += c.recordSize()
	}
	if sure < size {
		if err := c.file.Truncate(sure); err != nil {
			return err
		}
	}
	c.index.setWord(atIndexed, uint64(sure))
	return c.cover(2*sure, unix.PROT_READ)
}

// add indexes the record at an offset.
func (c *cache) add(k key, at int64) error {
	if err := c.index.room(c.file, 1); err != nil {
		return err
	}
	return c.index.insert(k.hash(), uint64((at-headerSize)/c.recordSize()))
}

func sound(record []byte) bool {
	body := len(record) - 4
	return binary.LittleEndian.Uint32(record[body:]) == crc32.Checksum(record[:body], castagnoli)
}

// find returns the bytes of a sound record in the mapped file, nil when there is none. They are valid until the cache is written or closed.
func (c *cache) find(k key) []byte {
	var found []byte
	records := uint64(max(0, min(c.index.indexed(), int64(len(c.data)))-headerSize) / c.recordSize())
	c.index.find(k, func(n uint64) bool {
		if n >= records { // the index is damaged, or the file has been mapped before another process wrote this record
			return false
		}
		at := headerSize + int64(n)*c.recordSize()
		record := c.data[at : at+c.recordSize()]
		if key(record[:sha256.Size]) != k || !sound(record) {
			return false
		}
		found = record
		return true
	})
	return found
}

// get reads a vector, nil when it is absent. A record damaged since it was written counts as absent.
func (c *cache) get(k key) (v []float32, err error) {
	err = guarded(func() error {
		record := c.find(k)
		if record == nil {
			return nil
		}
		v = make([]float32, c.dim)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(record[sha256.Size+4*i:]))
		}
		return nil
	})
	return v, err
}

// put appends vectors that are absent and syncs them to disk.
func (c *cache) put(keys []key, vectors [][]float32) error {
	return c.locked(func() error {
		if err := c.refresh(); err != nil {
			return err
		}
		var b []byte
		var added []key
		have := make(map[key]bool)
		for i, k := range keys {
			if have[k] || c.find(k) != nil {
				continue
			}
			have[k] = true
			start := len(b)
			b = append(b, k[:]...)
			for _, x := range vectors[i] {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
			added = append(added, k)
		}
		at := c.index.indexed()
		failpoint.Hit("vectors-before-write")
		if _, err := c.file.WriteAt(b, at); err != nil {
			return errors.Join(err, c.file.Truncate(at))
		}
		failpoint.Hit("vectors-written")
		if err := c.file.Sync(); err != nil {
			return err
		}
		end := at + int64(len(b))
		for i, k := range added {
			err := c.add(k, at+int64(i)*c.recordSize())
			if errors.Is(err, errFull) {
				return c.reindex(end)
			}
			if err != nil {
				return err
			}
			failpoint.Hit("vectors-indexed")
		}
		c.index.setWord(atIndexed, uint64(end))
		return c.cover(2*end, unix.PROT_READ)
	})
}
