package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
)

// copying is the data of a COPY in PostgreSQL's binary format: per row the number of columns, per column its length, -1 for NULL, and
// its bytes.
type copying struct {
	columns uint16
	data    []byte
}

// newCopying begins data of about size bytes for rows of some columns.
func newCopying(columns uint16, size int) *copying {
	const header = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, length of an extension
	return &copying{columns, append(make([]byte, 0, size+len(header)), header...)}
}

func (c *copying) row() { c.data = binary.BigEndian.AppendUint16(c.data, c.columns) }

func (c *copying) int(n int64) {
	c.data = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(c.data, 8), uint64(n))
}

// bytes adds a byte string, NULL for an empty one.
func (c *copying) bytes(s string) {
	if s == "" {
		c.data = binary.BigEndian.AppendUint32(c.data, math.MaxUint32)
		return
	}
	c.data = append(binary.BigEndian.AppendUint32(c.data, uint32(len(s))), s...)
}

// send copies what was added into a table, named with its columns.
func (c *copying) send(ctx context.Context, s session, table string) error {
	data := binary.BigEndian.AppendUint16(c.data, math.MaxUint16) // the end
	_, err := s.(pgSession).tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(data), `COPY `+table+` FROM STDIN BINARY`)
	return err
}
