package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"recpie/internal/fault"
)

// Input is one row to be worked on.
type Input struct {
	Row      int64    // position in the batch, 0 ≤ Row < 2^40; rows come in rising order
	Identity [32]byte // SHA-256 of all that determines the result: rows with one identity have one result
	Data     []byte   // what the handler needs; opaque to the engine
}

// Result is how a row ended. Exactly one of Text and Reason is set.
type Result struct {
	Row     int64
	Text    string // the usable sentence
	Raw     string // what the model wrote
	Reason  string // why the row is a dead letter
	Tokens  int    // generated tokens
	Payload []byte // handler's own data, may be nil
}

// codecs are shared: both are safe for concurrent use on whole blocks.
var codecs = sync.OnceValues(func() (c struct {
	*zstd.Encoder
	*zstd.Decoder
}, err error) {
	if c.Encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithZeroFrames(true)); err != nil {
		return c, err
	}
	c.Decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxInputs))
	return c, err
})

// maxInputs bounds the unpacked inputs of a chunk, in bytes.
const maxInputs = 1 << 30

// pack encodes the inputs of a chunk: per row the step from the row before, the identity and the data. The frame carries a checksum.
func pack(rows []Input) ([]byte, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	var b []byte
	last := int64(0)
	for _, r := range rows {
		b = binary.AppendUvarint(b, uint64(r.Row-last))
		b = append(b, r.Identity[:]...)
		b = binary.AppendUvarint(b, uint64(len(r.Data)))
		b = append(b, r.Data...)
		last = r.Row
	}
	if len(b) > maxInputs {
		return nil, fmt.Errorf("a chunk of %d rows has %d bytes, more than %d", len(rows), len(b), maxInputs)
	}
	return c.EncodeAll(b, nil), nil
}

// errInputs is damage that the checksum did not see.
var errInputs = errors.New("the stored inputs of a chunk are damaged")

func unpack(block []byte) ([]Input, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	b, err := c.DecodeAll(block, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInputs, err)
	}
	var rows []Input
	last := int64(0)
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 || step > maxNumber || len(b) < n+32 {
			return nil, errInputs
		}
		r := Input{Row: last + int64(step), Identity: [32]byte(b[n:])}
		b = b[n+32:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) || r.Row > maxNumber || len(rows) > 0 && step == 0 {
			return nil, errInputs
		}
		end := n + int(size)
		r.Data = b[n:end:end]
		b, last = b[end:], r.Row
		rows = append(rows, r)
	}
	return rows, nil
}

// check holds a handler's answer to its contract: one result for each row, in order, each a text or a reason.
func check(rows []Input, results []Result) error {
	if len(results) != len(rows) {
		return fault.Newf(fault.Fatal, "queue", "the handler answered %d of %d rows", len(results), len(rows))
	}
	for i, r := range results {
		switch {
		case r.Row != rows[i].Row:
			return fault.Newf(fault.Fatal, "queue", "the handler answered row %d in place of row %d", r.Row, rows[i].Row)
		case (r.Text == "") == (r.Reason == ""):
			return fault.Newf(fault.Fatal, "queue", "row %d must have a text or a reason, and not both", r.Row)
		}
	}
	return nil
}

// hashOf is the key of an identity in the index.
func hashOf(identity []byte) int64 { return int64(binary.BigEndian.Uint64(identity)) }
