package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// preTokenizer cuts a non-empty text into non-empty words. first says that the text begins the whole input.
type preTokenizer func(text string, first bool, emit func(word string))

// pattern is what a component matches: a literal or a regular expression.
type pattern struct {
	String string `json:"String"`
	Regex  string `json:"Regex"`
}

// parsePreTokenizer also reports whether the words are to be spelt as bytes.
func parsePreTokenizer(raw json.RawMessage, depth int) (pre preTokenizer, bytes bool, err error) {
	typ, err := kind(raw)
	if err != nil || typ == "" {
		return nil, false, err
	}
	var c struct {
		PreTokenizers    []json.RawMessage `json:"pretokenizers"`
		AddPrefixSpace   bool              `json:"add_prefix_space"`
		UseRegex         *bool             `json:"use_regex"`
		Pattern          pattern           `json:"pattern"`
		Behavior         string            `json:"behavior"`
		Invert           bool              `json:"invert"`
		IndividualDigits bool              `json:"individual_digits"`
		Replacement      string            `json:"replacement"`
		PrependScheme    string            `json:"prepend_scheme"`
		Split            *bool             `json:"split"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, false, fmt.Errorf("pre_tokenizer %s: %w", typ, err)
	}
	switch typ {
	case "Sequence":
		if depth == 0 {
			return nil, false, fmt.Errorf("pre_tokenizer: sequences nested too deeply")
		}
		for _, r := range c.PreTokenizers {
			if bytes {
				return nil, false, fmt.Errorf("pre_tokenizer: ByteLevel must come last")
			}
			var next preTokenizer
			if next, bytes, err = parsePreTokenizer(r, depth-1); err != nil {
				return nil, false, err
			}
			pre = chain(pre, next)
		}
		return pre, bytes, nil
	case "ByteLevel":
		return byteLevel(c.AddPrefixSpace, c.UseRegex == nil || *c.UseRegex), true, nil
	case "BertPreTokenizer":
		return bertWords, false, nil
	case "Digits":
		limit := 0
		if c.IndividualDigits {
			limit = 1
		}
		return digits(limit), false, nil
	case "Metaspace":
		if utf8.RuneCountInString(c.Replacement) != 1 {
			return nil, false, fmt.Errorf("pre_tokenizer Metaspace: replacement %q is not one character", c.Replacement)
		}
		switch c.PrependScheme {
		case "always", "first", "never":
		default:
			return nil, false, fmt.Errorf("pre_tokenizer Metaspace: prepend_scheme %q is not supported", c.PrependScheme)
		}
		return metaspace(c.Replacement, c.PrependScheme, c.Split == nil || *c.Split), false, nil
	case "Split":
		pre, err := parseSplit(c.Pattern, c.Behavior, c.Invert)
		return pre, false, err
	default:
		return nil, false, fmt.Errorf("pre_tokenizer %s is not supported", typ)
	}
}

func chain(a, b preTokenizer) preTokenizer {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return func(text string, first bool, emit func(string)) {
		a(text, first, func(word string) {
			b(word, first, emit)
			first = false
		})
	}
}

func byteLevel(prefixSpace, useRegex bool) preTokenizer {
	if !prefixSpace && !useRegex {
		return nil
	}
	return func(text string, _ bool, emit func(string)) {
		if prefixSpace && text[0] != ' ' {
			text = " " + text
		}
		if useRegex {
			scanGPT2(text, emit)
		} else {
			emit(text)
		}
	}
}

func parseSplit(p pattern, behavior string, invert bool) (preTokenizer, error) {
	if behavior != "Isolated" && behavior != "Removed" {
		return nil, fmt.Errorf("pre_tokenizer Split: behavior %q is not supported", behavior)
	}
	keepMatch, keepRest := behavior == "Isolated" || invert, behavior == "Isolated" || !invert
	if p.Regex == "" {
		if p.String == "" {
			return nil, fmt.Errorf("pre_tokenizer Split: empty pattern")
		}
		return func(text string, _ bool, emit func(string)) {
			for {
				i := strings.Index(text, p.String)
				if i < 0 {
					break
				}
				if i > 0 && keepRest {
					emit(text[:i])
				}
				if keepMatch {
					emit(text[i : i+len(p.String)])
				}
				text = text[i+len(p.String):]
			}
			if text != "" && keepRest {
				emit(text)
			}
		}, nil
	}
	if keepMatch { // these cover every text, so that there is no rest
		switch p.Regex {
		case gpt2Pattern:
			return func(text string, _ bool, emit func(string)) { scanGPT2(text, emit) }, nil
		case llama3Pattern:
			scan := scanLlama3(3)
			return func(text string, _ bool, emit func(string)) { scan(text, emit) }, nil
		case qwen2Pattern:
			scan := scanLlama3(1)
			return func(text string, _ bool, emit func(string)) { scan(text, emit) }, nil
		}
	}
	re, err := regexp2.Compile(p.Regex, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("pre_tokenizer Split: pattern not supported: %w", err)
	}
	return func(text string, _ bool, emit func(string)) {
		splitRegex(re, text, keepMatch, keepRest, emit)
	}, nil
}

// splitRegex cuts text at the matches of re. The engine counts characters, at[i] is the byte where the i-th begins.
func splitRegex(re *regexp2.Regexp, text string, keepMatch, keepRest bool, emit func(string)) {
	var runes []rune
	var at []int
	for i, r := range text {
		runes, at = append(runes, r), append(at, i)
	}
	at = append(at, len(text))
	done := 0
	// Without a time limit the engine has no error to give; were there one, the rest would stay in one piece.
	for m, err := re.FindRunesMatch(runes); m != nil && err == nil; m, err = re.FindNextMatch(m) {
		if m.Length == 0 {
			continue
		}
		if done < m.Index && keepRest {
			emit(text[at[done]:at[m.Index]])
		}
		done = m.Index + m.Length
		if keepMatch {
			emit(text[at[m.Index]:at[done]])
		}
	}
	if done < len(runes) && keepRest {
		emit(text[at[done]:])
	}
}

// bertWords cuts at white space, which vanishes, and around every punctuation mark.
func bertWords(text string, _ bool, emit func(string)) {
	start := 0
	flush := func(end int) {
		if start < end {
			emit(text[start:end])
		}
	}
	for i, r := range text {
		n := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, n = utf8.DecodeRuneInString(text[i:])
		}
		switch {
		case unicode.IsSpace(r):
			flush(i)
			start = i + n
		case isPunct(r):
			flush(i)
			emit(text[i : i+n])
			start = i + n
		}
	}
	flush(len(text))
}

// isPunct counts ASCII symbols such as $ and ^ as punctuation, as BERT does.
func isPunct(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && asciiClass[r] == other
	}
	return unicode.IsPunct(r)
}

// digits separates numbers from the rest, at most limit characters each (0: no limit).
func digits(limit int) preTokenizer {
	return func(text string, _ bool, emit func(string)) {
		start := 0
		for i := 0; i < len(text); {
			c, n := classAt(text, i)
			if c != number {
				i += n
				continue
			}
			if start < i {
				emit(text[start:i])
			}
			start = run(text, i, number, limit)
			emit(text[i:start])
			i = start
		}
		if start < len(text) {
			emit(text[start:])
		}
	}
}

// metaspace writes spaces as the replacement and puts one before the text, always or before the first piece only.
func metaspace(repl, scheme string, split bool) preTokenizer {
	return func(text string, first bool, emit func(string)) {
		text = strings.ReplaceAll(text, " ", repl)
		if (scheme == "always" || scheme == "first" && first) && !strings.HasPrefix(text, repl) {
			text = repl + text
		}
		for split {
			i := strings.Index(text[1:], repl) // a replacement at the start opens this word
			if i < 0 {
				break
			}
			emit(text[:i+1])
			text = text[i+1:]
		}
		emit(text)
	}
}
