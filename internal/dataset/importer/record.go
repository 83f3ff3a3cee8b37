package importer

import (
	"encoding/binary"
	"math"
)

// record is an event with numbers for its ids and columns, as it lies in a spool.
type record struct {
	user, item int32
	rating     float64
	time       int64
	hasTime    bool
	row        int64
	outcomes   []byte // (column, length, text)*
}

// append encodes the record without its outcomes; these follow, their bytes counted in front.
func (r *record) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.user))
	b = binary.AppendUvarint(b, uint64(r.item))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.rating))
	if r.hasTime {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendVarint(b, r.time)
	b = binary.AppendUvarint(b, uint64(r.row))
	b = binary.AppendUvarint(b, uint64(len(r.outcomes)))
	return append(b, r.outcomes...)
}

// cut decodes the record at the beginning of b, which the spool wrote, and returns what is behind it.
func (r *record) cut(b []byte) []byte {
	u, n := binary.Uvarint(b)
	i, m := binary.Uvarint(b[n:])
	b = b[n+m:]
	r.user, r.item = int32(u), int32(i)
	r.rating, r.hasTime = math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8] == 1
	b = b[9:]
	r.time, n = binary.Varint(b)
	row, m := binary.Uvarint(b[n:])
	r.row = int64(row)
	b = b[n+m:]
	size, n := binary.Uvarint(b)
	r.outcomes = b[n : n+int(size)]
	return b[n+int(size):]
}

// appendOutcome adds one outcome to the text of a record.
func appendOutcome(b []byte, column int, text string) []byte {
	b = binary.AppendUvarint(b, uint64(column))
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// eachOutcome hands the outcomes of a record to fn.
func eachOutcome(b []byte, fn func(column int, text []byte)) {
	for len(b) > 0 {
		column, n := binary.Uvarint(b)
		size, m := binary.Uvarint(b[n:])
		b = b[n+m:]
		fn(int(column), b[:size])
		b = b[size:]
	}
}
