package queue

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestInputsArePacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rows []Input
		row := int64(-1)
		for range rapid.IntRange(0, 20).Draw(t, "rows") {
			row += rapid.Int64Range(1, 1<<34).Draw(t, "step")
			r := Input{Row: row, Data: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data")}
			copy(r.Identity[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "identity"))
			rows = append(rows, r)
		}
		block, err := pack(rows)
		if err != nil || len(block) == 0 {
			t.Fatalf("%d bytes, %v", len(block), err)
		}
		got, err := unpack(block)
		if err != nil || len(got) != len(rows) {
			t.Fatalf("%d rows of %d, %v", len(got), len(rows), err)
		}
		for i, r := range rows {
			if g := got[i]; g.Row != r.Row || g.Identity != r.Identity || !bytes.Equal(g.Data, r.Data) {
				t.Fatalf("row %d is %+v, want %+v", i, g, r)
			}
		}
		if len(rows) > 0 { // one bit of damage is seen
			at := rapid.IntRange(0, len(block)-1).Draw(t, "at")
			block[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if got, err := unpack(block); err == nil && len(got) != len(rows) {
				t.Fatalf("a damaged block was read as %d rows", len(got))
			}
		}
	})
}

// Whatever is stored, unpack says that it is damaged or returns rows that rise.
func FuzzUnpack(f *testing.F) {
	c, err := codecs()
	if err != nil {
		f.Fatal(err)
	}
	for _, rows := range [][]Input{{}, {{Row: 0}}, {{Row: 5, Data: []byte("abc")}, {Row: 1 << 39}}} {
		block, err := pack(rows)
		if err != nil {
			f.Fatal(err)
		}
		plain, err := c.DecodeAll(block, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		rows, err := unpack(c.EncodeAll(plain, nil))
		if err != nil && !errors.Is(err, errInputs) {
			t.Fatal(err)
		}
		last := int64(-1)
		for _, r := range rows {
			if r.Row <= last || r.Row > maxNumber {
				t.Fatalf("row %d after row %d", r.Row, last)
			}
			last = r.Row
		}
	})
}
