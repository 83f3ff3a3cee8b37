package softprompt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// header is what the pickle program says about the tensor.
type header struct {
	storage string // FloatStorage, HalfStorage, BFloat16Storage, DoubleStorage
	key     string // the record data/{key}
	count   int    // elements of the storage
	offset  int
	shape   []int
	stride  []int
}

// parsePickle matches the one program that torch.save writes for a tensor, with or without the memo opcodes, and with any of the
// integer opcodes. It executes nothing: any other opcode, name or order is an error.
func parsePickle(b []byte) (header, error) {
	s := scanner{b: b}
	var h header
	s.lit("\x80\x02")
	s.global("torch._utils\n_rebuild_tensor_v2\n")
	s.lit("(")
	s.lit("(")
	if kind := s.str(); kind != "storage" {
		s.failf("persistent id %q", kind)
	}
	h.storage = s.storage()
	h.key = s.str()
	if device := s.str(); device != "cpu" {
		s.failf("device %q", device)
	}
	h.count = s.int()
	s.lit("t")
	s.memo()
	s.lit("Q")
	h.offset = s.int()
	h.shape = s.tuple()
	h.stride = s.tuple()
	s.bool()
	s.global("collections\nOrderedDict\n")
	s.lit(")")
	s.memo()
	s.lit("R")
	s.memo()
	s.lit("t")
	s.memo()
	s.lit("R")
	s.memo()
	s.lit(".")
	if s.err == nil && s.at != len(b) {
		s.failf("%d bytes after the end", len(b)-s.at)
	}
	return h, s.err
}

// scanner walks over the program; after the first mismatch every call is a no-op.
type scanner struct {
	b   []byte
	at  int
	err error
}

func (s *scanner) failf(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("data.pkl is not a plain tensor: at byte %d: %s", s.at, fmt.Sprintf(format, args...))
	}
}

func (s *scanner) peek() byte {
	if s.err != nil || s.at >= len(s.b) {
		return 0
	}
	return s.b[s.at]
}

// take returns the next n bytes, or nil after a failure.
func (s *scanner) take(n int) []byte {
	if s.err != nil {
		return nil
	}
	if n < 0 || len(s.b)-s.at < n {
		s.failf("the program ends early")
		return nil
	}
	s.at += n
	return s.b[s.at-n : s.at]
}

func (s *scanner) lit(want string) {
	start := s.at
	if got := s.take(len(want)); got != nil && string(got) != want {
		s.at = start
		s.failf("%q where %q was expected", got, want)
	}
}

// memo skips an optional BINPUT or LONG_BINPUT: nothing is ever fetched from the memo.
func (s *scanner) memo() {
	switch s.peek() {
	case 'q':
		s.take(2)
	case 'r':
		s.take(5)
	}
}

func (s *scanner) global(name string) {
	s.lit("c" + name)
	s.memo()
}

func (s *scanner) storage() string {
	s.lit("ctorch\n")
	start := s.at
	for s.peek() != '\n' && s.peek() != 0 && s.at-start < 32 {
		s.at++
	}
	name := string(s.b[start:s.at])
	s.lit("\n")
	s.memo()
	return name
}

func (s *scanner) str() string {
	s.lit("X")
	n := s.take(4)
	if n == nil {
		return ""
	}
	size := binary.LittleEndian.Uint32(n)
	if size > 64 {
		s.failf("a string of %d bytes", size)
		return ""
	}
	v := string(s.take(int(size)))
	s.memo()
	return v
}

// int reads BININT1, BININT2, BININT, or a LONG1 of up to 8 bytes; the value must not be negative and must fit an int32.
func (s *scanner) int() int {
	op := s.take(1)
	if op == nil {
		return 0
	}
	var v uint64
	switch op[0] {
	case 'K':
		v = le(s.take(1))
	case 'M':
		v = le(s.take(2))
	case 'J':
		v = le(s.take(4))
	case 0x8a:
		n := s.take(1)
		if n == nil || n[0] > 8 {
			s.failf("a long integer")
			return 0
		}
		v = le(s.take(int(n[0])))
	default:
		s.at--
		s.failf("opcode %#x where a number was expected", op[0])
	}
	if v > math.MaxInt32 {
		s.failf("number %d is out of range", v)
		return 0
	}
	return int(v)
}

func le(b []byte) uint64 {
	var v uint64
	for i, x := range b {
		v |= uint64(x) << (8 * i)
	}
	return v
}

// tuple reads a tuple of one to three numbers (TUPLE1..3) or a marked one of more.
func (s *scanner) tuple() []int {
	var v []int
	marked := s.peek() == '('
	if marked {
		s.take(1)
	}
	for s.err == nil && len(v) <= 8 {
		switch op := s.peek(); {
		case !marked && op >= 0x85 && op <= 0x87 && int(op-0x84) == len(v), marked && op == 't':
			s.take(1)
			s.memo()
			return v
		default:
			v = append(v, s.int())
		}
	}
	s.failf("a tuple of more than 8 numbers")
	return nil
}

func (s *scanner) bool() {
	if op := s.take(1); op != nil && op[0] != 0x88 && op[0] != 0x89 {
		s.at--
		s.failf("opcode %#x where a bool was expected", op[0])
	}
}

// matrix checks that the header describes a whole, dense, row-major [rows, cols] tensor (or [1, rows, cols]).
func (h header) matrix() (rows, cols int, err error) {
	shape, stride := h.shape, h.stride
	if len(shape) != len(stride) {
		return 0, 0, fmt.Errorf("shape %v with strides %v", shape, stride)
	}
	if len(shape) == 3 && shape[0] == 1 {
		shape, stride = shape[1:], stride[1:]
	}
	if len(shape) != 2 {
		return 0, 0, fmt.Errorf("shape %v: want [rows, hidden]", h.shape)
	}
	rows, cols = shape[0], shape[1]
	if rows < 1 || cols < 1 {
		return 0, 0, fmt.Errorf("shape %v is empty", h.shape)
	}
	// The stride of a dimension of size 1 says nothing and may be anything.
	if (cols > 1 && stride[1] != 1) || (rows > 1 && stride[0] != cols) {
		return 0, 0, fmt.Errorf("strides %v of shape %v: only dense row-major tensors are read", h.stride, h.shape)
	}
	if h.offset != 0 {
		return 0, 0, errors.New("the tensor is a view into a larger storage")
	}
	return rows, cols, nil
}
