package encoder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// The index file is a hash table over the records of a cache file, mapped into memory, so that neither opening a cache nor holding it open costs
// time or heap by the number of its vectors. It is a header of 64 bytes (magic, device and inode of the cache file, bytes of it that are
// indexed, entries) and 2^k slots of 16 bytes: the first 8 bytes of the key, and the record's number + 1, 0 for an empty slot. Collisions go to the
// next slot.
//
// It is derived, and nothing depends on its being right: whoever follows a slot checks key and checksum of the record. One that is of another
// file, too short or full is made anew. It is changed under the lock of the cache file only; readers need none.
const (
	indexMagic = "recpie index 1\n"
	slotSize   = 16
	firstSlots = 1 << 12
)

// offsets in the header
const (
	atDevice  = 16
	atInode   = 24
	atIndexed = 32
	atEntries = 40
)

var errFull = errors.New("the index is full")

type index struct {
	mapped
	path string
}

func (x *index) word(at int64) uint64       { return binary.LittleEndian.Uint64(x.data[at:]) }
func (x *index) setWord(at int64, v uint64) { binary.LittleEndian.PutUint64(x.data[at:], v) }
func (x *index) entries() uint64            { return x.word(atEntries) }
func (x *index) slots() uint64              { return uint64(len(x.data)-headerSize) / slotSize }

// indexed returns how many bytes of the cache file the index covers.
func (x *index) indexed() int64 { return int64(x.word(atIndexed)) }

// identity names a file by device and inode.
func identity(f *os.File) (device, inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Dev), st.Ino, nil
}

// open maps the index of the cache file with that many bytes. ok is false when there is none or it cannot be of this file.
func (x *index) open(of *os.File, size int64) (ok bool, err error) {
	if err := x.close(); err != nil {
		return false, err
	}
	f, err := os.OpenFile(x.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	x.file = f
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	n := (info.Size() - headerSize) / slotSize
	if info.Size() < headerSize+slotSize || (info.Size()-headerSize)%slotSize != 0 || bits.OnesCount64(uint64(n)) != 1 {
		return false, nil
	}
	if err := x.cover(info.Size(), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return false, err
	}
	device, inode, err := identity(of)
	if err != nil {
		return false, err
	}
	return bytes.HasPrefix(x.data, []byte(indexMagic)) && x.word(atDevice) == device && x.word(atInode) == inode &&
		x.indexed() >= headerSize && x.indexed() <= size && x.entries() <= x.slots(), nil
}

// current says whether the file at the path is still the one that is mapped: another process may have made a larger one.
func (x *index) current() bool {
	if x.file == nil || x.data == nil {
		return false
	}
	a, err := os.Stat(x.path)
	if err != nil {
		return false
	}
	b, err := x.file.Stat()
	return err == nil && os.SameFile(a, b)
}

// create replaces the file by one with that many slots, which takes over the entries of old, or none when old is nil.
func (x *index) create(of *os.File, slots uint64, old *index) error {
	device, inode, err := identity(of)
	if err != nil {
		return err
	}
	next := &index{path: x.path}
	if next.file, err = os.OpenFile(x.path+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = next.close()
		}
	}()
	size := headerSize + int64(slots)*slotSize
	if err = zeros(next.file, size); err != nil { // no holes: a full disk shows here, not when a slot is touched
		return err
	}
	if err = next.cover(size, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	copy(next.data, indexMagic)
	next.setWord(atDevice, device)
	next.setWord(atInode, inode)
	next.setWord(atIndexed, headerSize)
	if old != nil {
		next.setWord(atIndexed, uint64(old.indexed()))
		for s := range old.slots() {
			if at := int64(headerSize + s*slotSize); old.word(at+8) != 0 {
				if err = next.insert(old.word(at), old.word(at+8)-1); err != nil {
					return err
				}
			}
		}
	}
	if err = os.Rename(next.file.Name(), x.path); err != nil {
		return err
	}
	err = x.close()
	*x = *next
	return err
}

func zeros(f *os.File, size int64) error {
	block := make([]byte, min(size, 1<<20))
	for size > 0 {
		n, err := f.Write(block[:min(size, int64(len(block)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// room makes sure that n more entries fit and that a quarter of the slots stays empty.
func (x *index) room(of *os.File, n int) error {
	slots := x.slots()
	for (x.entries()+uint64(n))*4 > slots*3 {
		slots *= 2
	}
	if slots == x.slots() {
		return nil
	}
	old := *x
	return x.create(of, slots, &old)
}

// find calls match with the number of each record that may have the key until it says yes.
func (x *index) find(k key, match func(record uint64) bool) bool {
	hash, mask := binary.LittleEndian.Uint64(k[:]), x.slots()-1
	for probe := range x.slots() {
		at := int64(headerSize + (hash+probe)&mask*slotSize)
		record := x.word(at + 8)
		if record == 0 {
			return false
		}
		if x.word(at) == hash && match(record-1) {
			return true
		}
	}
	return false
}

// insert adds an entry by the first 8 bytes of its key.
func (x *index) insert(hash, record uint64) error {
	mask := x.slots() - 1
	for probe := range x.slots() {
		at := int64(headerSize + (hash+probe)&mask*slotSize)
		if x.word(at+8) != 0 {
			continue
		}
		x.setWord(at, hash)
		x.setWord(at+8, record+1) // last: a reader sees the slot whole or empty
		x.setWord(atEntries, x.entries()+1)
		return nil
	}
	return errFull
}

func (x *index) close() error {
	err := x.release()
	if x.file != nil {
		err = errors.Join(err, x.file.Close())
		x.file = nil
	}
	return err
}
