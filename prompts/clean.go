package prompts

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Lengths of what is taken from data, in runes.
const (
	maxTitle      = 80
	maxCategories = 120
	maxProfile    = 400
	maxShort      = 60 // a profile that stands in for a title in the history
	maxTerm       = 40
)

var (
	// ansi matches terminal sequences: CSI, and OSC up to its end.
	ansi = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.`)
	// tags matches control tokens of chat templates and markup: <|im_start|>, </s>, <<SYS>>, [INST], <prompt_embeds>.
	tags = regexp.MustCompile(`<[^<>]{0,80}>|\[/?(?:INST|SYS|CLS|SEP|MASK|PAD|UNK|BOS|EOS|[A-Z]+_[A-Z_]+)\]`)
	// roles matches the speakers of templates that mark turns by words alone ("USER: … ASSISTANT:").
	roles = regexp.MustCompile(`(?i)\b(user|assistant|system|human|instruction|input|response)\s*:`)
)

// structural are the characters that control tokens are made of, after compatibility normalisation has folded their look-alikes into them.
// Brackets become round ones, since titles use them; the others go.
var structural = strings.NewReplacer("<", "", ">", "", "|", "", "`", "", "[", "(", "]", ")", "{", "(", "}", ")")

// clean makes text from data safe to stand in a slot: one line without control, direction or invisible characters, without terminal sequences,
// without anything that a tokenizer reads as a control token, at most limit runes, cut at a word.
func clean(s string, limit int) string { return cut(tidy(s, limit), limit) }

// tidy is clean before the cut.
func tidy(s string, limit int) string {
	if len(s) > 16*limit { // a book in the title column must not cost a book's time
		s = s[:16*limit]
	}
	s = norm.NFKC.String(strings.ToValidUTF8(s, ""))
	s = ansi.ReplaceAllString(s, " ")
	s = strings.Map(visible, s)
	for { // taking a tag out may make another: <<s>s>
		next := tags.ReplaceAllString(s, " ")
		if next == s {
			break
		}
		s = next
	}
	s = roles.ReplaceAllString(structural.Replace(s), "$1")
	return strings.Join(strings.Fields(s), " ")
}

// visible maps white space and control characters to a space and drops what cannot be seen: format (bidi, zero width), private and
// unassigned characters. Variation selectors go too, being invisible marks.
func visible(r rune) rune {
	switch {
	case unicode.IsSpace(r) || unicode.IsControl(r):
		return ' '
	case r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0100 && r <= 0xE01EF:
		return -1
	case unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S):
		return r
	default:
		return -1
	}
}

func cut(s string, limit int) string {
	n := 0
	for i := range s {
		if n == limit {
			if sp := strings.LastIndexByte(s[:i], ' '); sp > i/2 {
				i = sp
			}
			return strings.TrimRight(s[:i], " ,;:-")
		}
		n++
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
