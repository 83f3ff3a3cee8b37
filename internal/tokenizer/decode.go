package tokenizer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder rewrites the spellings of a sequence of tokens; their concatenation is the text.
type decoder func([]string) []string

func parseDecoder(raw json.RawMessage, depth int) (decoder, error) {
	typ, err := kind(raw)
	if err != nil || typ == "" {
		return nil, err
	}
	var c struct {
		Decoders      []json.RawMessage `json:"decoders"`
		Prefix        string            `json:"prefix"`
		Cleanup       bool              `json:"cleanup"`
		Pattern       pattern           `json:"pattern"`
		Content       string            `json:"content"`
		Start         int               `json:"start"`
		Stop          int               `json:"stop"`
		Replacement   string            `json:"replacement"`
		PrependScheme string            `json:"prepend_scheme"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("decoder %s: %w", typ, err)
	}
	switch typ {
	case "Sequence":
		if depth == 0 {
			return nil, fmt.Errorf("decoder: sequences nested too deeply")
		}
		var all []decoder
		for _, r := range c.Decoders {
			d, err := parseDecoder(r, depth-1)
			if err != nil {
				return nil, err
			}
			if d != nil {
				all = append(all, d)
			}
		}
		return func(toks []string) []string {
			for _, d := range all {
				toks = d(toks)
			}
			return toks
		}, nil
	case "ByteLevel":
		return decodeBytes, nil
	case "WordPiece":
		return func(toks []string) []string { return decodeWordPiece(toks, c.Prefix, c.Cleanup) }, nil
	case "ByteFallback":
		return decodeFallback, nil
	case "Fuse":
		return func(toks []string) []string { return []string{strings.Join(toks, "")} }, nil
	case "Replace":
		if c.Pattern.Regex != "" || c.Pattern.String == "" {
			return nil, fmt.Errorf("decoder Replace: only a literal pattern is supported")
		}
		return each(func(_ int, s string) string { return strings.ReplaceAll(s, c.Pattern.String, c.Content) }), nil
	case "Strip":
		return each(func(_ int, s string) string { return strip(s, c.Content, c.Start, c.Stop) }), nil
	case "Metaspace":
		if c.Replacement == "" {
			return nil, fmt.Errorf("decoder Metaspace: empty replacement")
		}
		return each(func(i int, s string) string {
			if i == 0 && c.PrependScheme != "never" {
				s = strings.TrimPrefix(s, c.Replacement)
			}
			return strings.ReplaceAll(s, c.Replacement, " ")
		}), nil
	default:
		return nil, fmt.Errorf("decoder %s is not supported", typ)
	}
}

func each(fn func(i int, tok string) string) decoder {
	return func(toks []string) []string {
		out := make([]string, len(toks))
		for i, t := range toks {
			out[i] = fn(i, t)
		}
		return out
	}
}

// decodeBytes joins the bytes that the tokens spell; a token that spells none, such as a special token with a space, is text.
func decodeBytes(toks []string) []string {
	var b []byte
	for _, t := range toks {
		if u, ok := unspell(t); ok {
			b = append(b, u...)
		} else {
			b = append(b, t...)
		}
	}
	return []string{lossy(string(b))}
}

// cleanup undoes the spaces that WordPiece leaves around English punctuation, in the order of the reference.
var cleanup = []*strings.Replacer{
	strings.NewReplacer(" .", "."), strings.NewReplacer(" ?", "?"), strings.NewReplacer(" !", "!"), strings.NewReplacer(" ,", ","),
	strings.NewReplacer(" ' ", "'"), strings.NewReplacer(" n't", "n't"), strings.NewReplacer(" 'm", "'m"),
	strings.NewReplacer(" do not", " don't"), strings.NewReplacer(" 's", "'s"), strings.NewReplacer(" 've", "'ve"),
	strings.NewReplacer(" 're", "'re"),
}

func decodeWordPiece(toks []string, prefix string, clean bool) []string {
	return each(func(i int, t string) string {
		if rest, ok := strings.CutPrefix(t, prefix); i > 0 && ok {
			t = rest
		} else if i > 0 {
			t = " " + t
		}
		if clean {
			for _, r := range cleanup {
				t = r.Replace(t)
			}
		}
		return t
	})(toks)
}

// fallbackByte reads the spelling <0xNN> of a byte token.
func fallbackByte(tok string) (byte, bool) {
	if len(tok) != 6 || !strings.HasPrefix(tok, "<0x") || tok[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(tok[3:5], 16, 8)
	return byte(v), err == nil
}

// decodeFallback joins runs of byte tokens; a run that is no UTF-8 becomes one U+FFFD per byte.
func decodeFallback(toks []string) []string {
	var out []string
	var pending []byte
	flush := func() {
		switch {
		case len(pending) == 0:
		case utf8.Valid(pending):
			out = append(out, string(pending))
		default:
			for range pending {
				out = append(out, "\uFFFD")
			}
		}
		pending = pending[:0]
	}
	for _, t := range toks {
		if b, ok := fallbackByte(t); ok {
			pending = append(pending, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// strip takes up to start leading and stop trailing copies of c off s.
func strip(s, c string, start, stop int) string {
	for i := 0; c != "" && i < start && strings.HasPrefix(s, c); i++ {
		s = s[len(c):]
	}
	for i := 0; c != "" && i < stop && strings.HasSuffix(s, c); i++ {
		s = s[:len(s)-len(c)]
	}
	return s
}
