package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Unmarshal reads the JSON of an answer into out, and refuses what encoding/json lets pass although it says that the answer is not what
// the server meant: bytes that are no UTF-8 (they would become U+FFFD inside a text) and an object with one key twice (the last would
// count, for other readers the first).
func Unmarshal(data []byte, out any) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	if err := json.Unmarshal(data, out); err != nil {
		return err
	}
	return uniqueKeys(data)
}

// uniqueKeys looks for a repeated key in valid JSON.
func uniqueKeys(data []byte) error {
	var starts []int // per open object: where its keys begin
	var keys [][]byte
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{':
			starts = append(starts, len(keys))
		case '}':
			start := starts[len(starts)-1]
			if err := unique(keys[start:]); err != nil {
				return err
			}
			starts, keys = starts[:len(starts)-1], keys[:start]
		case '"':
			end := i + 1
			for data[end] != '"' {
				if data[end] == '\\' {
					end++
				}
				end++
			}
			text := data[i+1 : end]
			i = end
			after := end + 1
			for after < len(data) && data[after] <= ' ' {
				after++
			}
			if after == len(data) || data[after] != ':' {
				continue
			}
			keys = append(keys, plainKey(text))
		}
	}
	return nil
}

// plainKey undoes the escapes of a key, which a writer may set or not.
func plainKey(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	var s string
	if json.Unmarshal(slices.Concat([]byte{'"'}, text, []byte{'"'}), &s) != nil {
		return text
	}
	return []byte(s)
}

// unique reorders the keys of one object.
func unique(keys [][]byte) error {
	slices.SortFunc(keys, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return bytes.Compare(a, b)
	})
	for i := 1; i < len(keys); i++ {
		if bytes.Equal(keys[i-1], keys[i]) {
			return fmt.Errorf("the key %.100q stands twice in one object", keys[i])
		}
	}
	return nil
}
