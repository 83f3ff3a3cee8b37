package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

// vocabulary is made-up words of one to four syllables.
func vocabulary(r *rand.Rand, n int) []string {
	const consonants, vowels = "bcdfghklmnprstvw", "aeiou"
	words := make([]string, n)
	for k := range words {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteByte(consonants[r.IntN(len(consonants))])
			b.WriteByte(vowels[r.IntN(len(vowels))])
		}
		words[k] = b.String()
	}
	return words
}

// review is a rated record as Amazon publishes it.
type review struct {
	user, item, title, text string
	rating                  int
	time                    int64 // milliseconds since 1970
}

// maker draws reviews whose lengths and characters are shaped like Amazon's: some forty words in the middle and a long tail; now and
// then a line break, a quotation mark, an apostrophe outside ASCII, a smiley.
type maker struct {
	r     *rand.Rand
	words []string
}

func newMaker(seed uint64) *maker {
	r := rand.New(rand.NewPCG(seed, 1))
	return &maker{r, vocabulary(r, 5000)}
}

func (m *maker) word() string {
	u := m.r.Float64()
	return m.words[int(u*u*u*float64(len(m.words)))] // few words are frequent
}

func (m *maker) sentence(n int) string {
	var b strings.Builder
	for k := range n {
		if k > 0 {
			b.WriteByte(' ')
		}
		w := m.word()
		switch m.r.IntN(200) {
		case 0:
			w = `"` + w + `"`
		case 1:
			w += "’s"
		case 2:
			w += ".\n"
		case 3:
			w += "😀"
		case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13:
			w += ","
		}
		b.WriteString(w)
	}
	return strings.TrimSpace(b.String())
}

func (m *maker) next() review {
	n := int(math.Exp(m.r.NormFloat64()*.9+3.3)) + 1
	return review{user: fmt.Sprintf("AE%026X", m.r.IntN(2_000_000)), item: fmt.Sprintf("B%09X", m.r.IntN(200_000)), title: m.sentence(1 + m.r.IntN(6)),
		text: m.sentence(min(n, 2000)), rating: 1 + min(m.r.IntN(8), 4), time: 1_300_000_000_000 + m.r.Int64N(300_000_000_000)}
}

// jsonText writes a string as JSON with characters outside ASCII escaped, as Python does and so the publishers' files are.
func jsonText(into []byte, s string) []byte {
	into = append(into, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			into = append(into, '\\', byte(r))
		case r == '\n':
			into = append(into, '\\', 'n')
		case r < 0x80:
			into = append(into, byte(r))
		case r < 0x10000:
			into = fmt.Appendf(into, "\\u%04x", r)
		default:
			into = fmt.Appendf(into, "\\u%04x\\u%04x", 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return append(into, '"')
}

func jsonRow(into []byte, v review) []byte {
	into = append(into, `{"rating": `...)
	into = strconv.AppendInt(into, int64(v.rating), 10)
	into = jsonText(append(into, `.0, "title": `...), v.title)
	into = jsonText(append(into, `, "text": `...), v.text)
	into = fmt.Appendf(into, `, "images": [], "asin": %q, "parent_asin": %q, "user_id": %q, "timestamp": %d, "helpful_vote": %d, "verified_purchase": %t}`+"\n",
		v.item, v.item, v.user, v.time, v.time%4, v.time%7 > 0)
	return into
}

const csvHeader = "user_id,item_id,rating,timestamp,review\n"

func csvRow(into []byte, v review) []byte {
	into = fmt.Appendf(into, "%s,%s,%d,%d,", v.user, v.item, v.rating, v.time/1000)
	if strings.ContainsAny(v.text, "\",\n") {
		into = append(append(append(into, '"'), strings.ReplaceAll(v.text, `"`, `""`)...), '"')
	} else {
		into = append(into, v.text...)
	}
	return append(into, '\n')
}

// write makes a file of about size bytes.
func write(path string, header string, row func([]byte, review) []byte, seed uint64, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
	done, m := int64(len(header)), newMaker(seed)
	if _, err := w.WriteString(header); err != nil {
		return err
	}
	for buf := []byte(nil); done < size; done += int64(len(buf)) {
		buf = row(buf[:0], m.next())
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
