package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites text before it is cut into words.
type normalizer func(string) string

// kind reads the "type" of a component; "" stands for null or absent.
func kind(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var c struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return "", err
	}
	if c.Type == "" {
		return "", fmt.Errorf("component without a type")
	}
	return c.Type, nil
}

func parseNormalizer(raw json.RawMessage, depth int) (normalizer, error) {
	typ, err := kind(raw)
	if err != nil || typ == "" {
		return nil, err
	}
	var c struct {
		Normalizers        []json.RawMessage `json:"normalizers"`
		CleanText          bool              `json:"clean_text"`
		HandleChineseChars bool              `json:"handle_chinese_chars"`
		StripAccents       *bool             `json:"strip_accents"`
		Lowercase          bool              `json:"lowercase"`
		Prepend            string            `json:"prepend"`
		Pattern            pattern           `json:"pattern"`
		Content            string            `json:"content"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("normalizer %s: %w", typ, err)
	}
	switch typ {
	case "Sequence":
		if depth == 0 {
			return nil, fmt.Errorf("normalizer: sequences nested too deeply")
		}
		var all []normalizer
		for _, r := range c.Normalizers {
			n, err := parseNormalizer(r, depth-1)
			if err != nil {
				return nil, err
			}
			if n != nil {
				all = append(all, n)
			}
		}
		return func(s string) string {
			for _, n := range all {
				s = n(s)
			}
			return s
		}, nil
	case "NFC":
		return norm.NFC.String, nil
	case "NFD":
		return norm.NFD.String, nil
	case "NFKC":
		return norm.NFKC.String, nil
	case "NFKD":
		return norm.NFKD.String, nil
	case "Lowercase":
		return lower, nil
	case "Prepend":
		return func(s string) string {
			if s == "" {
				return s
			}
			return c.Prepend + s
		}, nil
	case "Replace":
		if c.Pattern.Regex != "" || c.Pattern.String == "" {
			return nil, fmt.Errorf("normalizer Replace: only a literal pattern is supported")
		}
		return func(s string) string { return strings.ReplaceAll(s, c.Pattern.String, c.Content) }, nil
	case "BertNormalizer":
		strip := c.Lowercase
		if c.StripAccents != nil {
			strip = *c.StripAccents
		}
		b := bertNormalizer{clean: c.CleanText, chinese: c.HandleChineseChars, strip: strip, lower: c.Lowercase}
		return b.apply, nil
	default:
		return nil, fmt.Errorf("normalizer %s is not supported", typ)
	}
}

// bertNormalizer is the text clean-up of BERT's BasicTokenizer. Go's Unicode tables are newer than the reference's, which know no
// character after Unicode 8: on 624 rare marks and signs added since then (none of them an emoji) the ids may differ.
type bertNormalizer struct {
	clean, chinese, strip, lower bool
}

func (b bertNormalizer) apply(s string) string {
	var sb strings.Builder
	sb.Grow(len(s) + 8)
	ascii := true
	for _, r := range s {
		if b.clean {
			if r == 0 || r == utf8.RuneError || isControl(r) {
				continue
			}
			if unicode.IsSpace(r) {
				r = ' '
			}
		}
		if r >= utf8.RuneSelf {
			ascii = false
		} else if b.lower && r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		if b.chinese && isChinese(r) {
			sb.WriteByte(' ')
			sb.WriteRune(r)
			sb.WriteByte(' ')
			continue
		}
		sb.WriteRune(r)
	}
	s = sb.String()
	if ascii {
		return s
	}
	if b.strip {
		s = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(s))
	}
	if b.lower {
		s = lower(s)
	}
	return s
}

// lower maps each character for itself, as Rust's char::to_lowercase does: no final sigma, and İ becomes i with a dot above.
func lower(s string) string {
	return strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r == 'İ' {
			return r
		}
		return unicode.ToLower(r)
	}, s), "İ", "i\u0307")
}

func isControl(r rune) bool {
	return r != '\t' && r != '\n' && r != '\r' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)
}

// isChinese is BERT's list of the CJK blocks that it cuts into single characters.
func isChinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF ||
		r >= 0x2A700 && r <= 0x2B73F || r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}
