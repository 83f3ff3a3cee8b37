package importer

import (
	"encoding/binary"
	"strings"

	"recpie/internal/dataset"
)

// appendItem encodes an item for the spool, its id left out.
func appendItem(b []byte, it *dataset.Item) []byte {
	text := func(s string) {
		s = strings.ToValidUTF8(s, "\uFFFD")
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(it.Title)
	text(it.Profile)
	text(it.Price)
	b = binary.AppendVarint(b, int64(it.Year))
	b = binary.AppendUvarint(b, uint64(len(it.Categories)))
	for _, c := range it.Categories {
		text(c)
	}
	b = binary.AppendUvarint(b, uint64(len(it.Extra)))
	for _, f := range it.Extra {
		text(f.Name)
		text(f.Value)
	}
	return b
}

// cutItem decodes what appendItem wrote.
func cutItem(b []byte) (it dataset.Item) {
	number := func() int {
		n, k := binary.Uvarint(b)
		b = b[k:]
		return int(n)
	}
	text := func() string {
		n := number()
		s := string(b[:n])
		b = b[n:]
		return s
	}
	it.Title, it.Profile, it.Price = text(), text(), text()
	year, k := binary.Varint(b)
	b = b[k:]
	it.Year = int(year)
	for range number() {
		it.Categories = append(it.Categories, text())
	}
	for range number() {
		name := text()
		it.Extra = append(it.Extra, dataset.Field{Name: name, Value: text()})
	}
	return it
}
