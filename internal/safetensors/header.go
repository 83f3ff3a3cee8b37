package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"unicode/utf8"
)

// maxHeader is the format's own limit on the JSON header, in bytes.
const maxHeader = 100_000_000

// entry is one tensor of the header: type, shape and its half-open byte range in the data section.
type entry struct {
	Info
	begin, end int64
}

type header struct {
	names   []string // in file order
	entries map[string]entry
	meta    map[string]string
}

// parseHeader reads the JSON header and checks it against dataSize, the number of bytes behind it.
func parseHeader(raw []byte, dataSize int64) (*header, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errors.New("header does not start with {")
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("header is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	h := &header{entries: map[string]entry{}}
	err := eachKey(dec, func(name string) error {
		if name == "__metadata__" {
			h.meta = map[string]string{}
			return eachKey(dec, func(k string) error {
				var v *string
				if err := dec.Decode(&v); err != nil {
					return err
				}
				if v == nil {
					return fmt.Errorf("metadata %q is null", k)
				}
				h.meta[k] = *v
				return nil
			})
		}
		var t struct {
			DType   DType   `json:"dtype"`
			Shape   []int64 `json:"shape"`
			Offsets []int64 `json:"data_offsets"`
		}
		if err := dec.Decode(&t); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		if len(t.Offsets) != 2 || t.Shape == nil {
			return fmt.Errorf("tensor %q: shape or data_offsets missing", name)
		}
		want, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		e := entry{Info{t.DType, t.Shape}, t.Offsets[0], t.Offsets[1]}
		if e.begin < 0 || e.end < e.begin || e.end > dataSize {
			return fmt.Errorf("tensor %q: data_offsets %v outside the %d bytes of data", name, t.Offsets, dataSize)
		}
		if e.end-e.begin != want {
			return fmt.Errorf("tensor %q: %d bytes for %s %v, want %d", name, e.end-e.begin, t.DType, t.Shape, want)
		}
		h.entries[name] = e
		h.names = append(h.names, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("header: data after the JSON object")
	}
	return h, h.checkCover(dataSize)
}

// checkCover sorts the names into file order and demands that the tensors tile [0, dataSize).
func (h *header) checkCover(dataSize int64) error {
	sort.Slice(h.names, func(i, j int) bool {
		a, b := h.entries[h.names[i]], h.entries[h.names[j]]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		if a.end != b.end {
			return a.end < b.end
		}
		return h.names[i] < h.names[j]
	})
	pos := int64(0)
	for _, name := range h.names {
		if e := h.entries[name]; e.begin != pos {
			return fmt.Errorf("tensor %q begins at %d, the one before ends at %d", name, e.begin, pos)
		}
		pos = h.entries[name].end
	}
	if pos != dataSize {
		return fmt.Errorf("%d bytes of data belong to no tensor", dataSize-pos)
	}
	return nil
}

// eachKey walks a JSON object; fn reads the value of each key. Unlike json.Unmarshal it refuses duplicate keys, as the format does.
func eachKey(dec *json.Decoder, fn func(key string) error) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("%v where an object is expected", tok)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok || seen[key] {
			return fmt.Errorf("bad or duplicate key %v", tok)
		}
		seen[key] = true
		if err := fn(key); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}
