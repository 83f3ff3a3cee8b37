package aspects

import (
	"math"
	"slices"
)

// event is what a review says at one place: an opinion word on a noun phrase, an opinion word alone, or a noun phrase alone.
type event struct {
	phrase   int32 // id, -1 for none
	opinion  int32 // id, -1 for none
	sentence uint16
	negated  bool
	weak     bool // the two only stand near each other
}

// dictionary numbers strings in the order in which they come.
type dictionary struct {
	ids   map[string]int32
	names []string
}

func newDictionary() *dictionary { return &dictionary{ids: make(map[string]int32)} }

func (d *dictionary) id(name []byte) int32 {
	if id, ok := d.ids[string(name)]; ok {
		return id
	}
	id := int32(len(d.names))
	s := string(name)
	d.ids[s], d.names = id, append(d.names, s)
	return id
}

// parser turns reviews into events. One goroutine uses it.
type parser struct {
	phrases, opinions *dictionary

	buf    []byte
	tags   []tagged
	chunks []chunk
	events []event
	linked []bool // per token: an opinion word that a phrase has already
	number uint16 // of the sentence
}

// chunk is a noun phrase: its last one or two nouns, tokens[from:to].
type chunk struct {
	from, to int
	id       int32
	linked   bool
}

func newParser() *parser { return &parser{phrases: newDictionary(), opinions: newDictionary()} }

// parse returns the events of a review in the order of the text. The slice is valid until the next call.
func (p *parser) parse(text string) []event {
	p.events, p.number = p.events[:0], 0
	sentences(text, func(_ span, tokens []token) {
		p.tags = tag(tokens, p.tags)
		p.sentence()
		if p.number < math.MaxUint16 {
			p.number++
		}
	})
	return p.events
}

// sentence finds the relations of one sentence.
func (p *parser) sentence() {
	s := p.tags
	p.linked = slices.Grow(p.linked[:0], len(s))[:len(s)]
	clear(p.linked)
	p.findChunks()
	for c := range p.chunks {
		p.attributes(&p.chunks[c])
		p.predicates(c)
		p.governed(&p.chunks[c])
	}
	p.sensed()
	for c := range p.chunks {
		p.near(&p.chunks[c])
	}
	for j := range s {
		if !p.linked[j] && opinionated(&s[j]) {
			p.add(-1, j, false)
		}
	}
}

// findChunks collects runs of nouns. A general noun ("thing") is no phrase, but may modify one.
func (p *parser) findChunks() {
	p.chunks = p.chunks[:0]
	s := p.tags
	for i := 0; i < len(s); {
		if s[i].class != noun {
			i++
			continue
		}
		j := i
		for j < len(s) && s[j].class == noun {
			j++
		}
		if w := s[j-1].word; s[j-1].flags&isGeneral == 0 && len(w) >= 3 {
			p.chunks = append(p.chunks, chunk{from: i, to: j, id: p.phrase(s[max(i, j-2):j])})
		}
		i = j
	}
}

// phrase returns the id of one or two nouns in the singular.
func (p *parser) phrase(words []tagged) int32 {
	p.buf = p.buf[:0]
	if len(words) == 2 && len(words[0].word) >= 2 && words[0].flags&isGeneral == 0 {
		p.buf = append(append(p.buf, Singular(words[0].word)...), ' ')
	}
	p.buf = append(p.buf, Singular(words[len(words)-1].word)...)
	return p.phrases.id(p.buf)
}

// opinionated says whether a token can carry an opinion.
func opinionated(t *tagged) bool {
	switch {
	case t.flags&isNeutral != 0:
		return false
	case t.class == adjective:
		return true
	case t.flags&isGovernor != 0 && t.word != "like":
		return true
	case t.flags&(isGood|isBad) != 0:
		return true
	}
	return t.class == adverb && t.flags == 0 && len(t.word) > 5 // "works flawlessly"
}

// add records an opinion word, on a phrase or (-1) on none.
func (p *parser) add(phrase int32, j int, weak bool) {
	s := p.tags
	p.buf = p.buf[:0]
	if j > 0 && s[j-1].word == "too" && s[j].class == adjective {
		p.buf = append(p.buf, "too "...)
	}
	p.buf = append(p.buf, s[j].word...)
	p.linked[j] = true
	p.events = append(p.events, event{phrase, p.opinions.id(p.buf), p.number, negated(s, j), weak})
}

// link records that the phrase c has the opinion at j.
func (p *parser) link(c *chunk, j int, weak bool) {
	if opinionated(&p.tags[j]) {
		c.linked = true
		p.add(c.id, j, weak)
	}
}

// attributes links the adjectives before a phrase: "a great and rich sound".
func (p *parser) attributes(c *chunk) {
	for j := c.from - 1; j >= 0; j-- {
		t := &p.tags[j]
		switch {
		case t.class == adjective:
			p.link(c, j, false)
		case sensing[t.word] != "": // "great sounding guitar": said of the sound
			return
		case j > 0 && p.tags[j-1].class == adjective && (t.class == mark || t.word == "and" || t.word == "but"):
		default:
			return
		}
	}
}

// predicates links what a copula says of a phrase: "the room (and the bath) was not very clean, but quiet".
func (p *parser) predicates(c int) {
	s := p.tags
	k := p.chunks[c].to
	for k < len(s) && (s[k].class == adverb || s[k].flags&isAuxiliary != 0) {
		k++
	}
	if k >= len(s) || s[k].flags&isCopula == 0 || s[k].class == noun {
		return
	}
	for k++; k < len(s); k++ {
		t := &s[k]
		switch {
		case t.class == adjective || t.class == verb && t.flags&isGovernor != 0 && t.flags&(isGood|isBad) != 0:
			if k+1 < len(s) && s[k+1].class == noun {
				return // "the room was good value": said of the value
			}
			for q := c; q >= 0; q-- { // "room and bath", "quality of the strings"
				p.link(&p.chunks[q], k, false)
				if q == 0 || !joined(s[p.chunks[q-1].to:p.chunks[q].from]) {
					break
				}
			}
		case t.class == adverb || t.class == mark || t.word == "and" || t.word == "but" || t.word == "a" || t.word == "so":
		default:
			return
		}
	}
}

// joined says whether two phrases with these words between them share a predicate.
func joined(between []tagged) bool {
	if len(between) == 0 || len(between) > 3 {
		return false
	}
	switch between[0].word {
	case "and", "or", "of", "&":
	default:
		return false
	}
	return !slices.ContainsFunc(between[1:], func(t tagged) bool { return t.class != determiner && t.class != adjective })
}

// governed links a phrase to the word that it is the object of: "love the tone", "problems with the jack".
func (p *parser) governed(c *chunk) {
	s := p.tags
	j := c.from - 1
	for j >= 0 && (s[j].class == determiner || s[j].class == adjective) {
		j--
	}
	if j >= 1 && s[j].flags&isPreposition != 0 && s[j].flags&isGovernor == 0 {
		j--
	}
	if j >= 0 && s[j].flags&isGovernor != 0 && s[j].class == verb {
		p.link(c, j, false)
	}
}

// sensed links an opinion to the noun of the verb before it: "it sounds really great".
func (p *parser) sensed() {
	s := p.tags
	for i := range s {
		if aspect := sensing[s[i].word]; aspect != "" && i > 0 && opinionated(&s[i-1]) {
			p.buf = append(p.buf[:0], aspect...)
			p.add(p.phrases.id(p.buf), i-1, false)
			continue
		}
		if s[i].flags&isSense == 0 || s[i].class == noun {
			continue
		}
		for j := i + 1; j < len(s) && j <= i+3; j++ {
			if s[j].class == adjective || s[j].class == adverb && opinionated(&s[j]) {
				if j+1 < len(s) && s[j+1].class == noun {
					break
				}
				p.buf = append(p.buf[:0], senses[s[i].word]...)
				p.add(p.phrases.id(p.buf), j, false)
				break
			}
			if s[j].class != adverb {
				break
			}
		}
	}
}

// window is how far, in words, an opinion may stand from a phrase that it has no better link to.
const window = 4

// near links a phrase without an opinion to the nearest free opinion word, or records it alone.
func (p *parser) near(c *chunk) {
	if c.linked {
		return
	}
	s := p.tags
	for d := 1; d <= window; d++ {
		for _, j := range []int{c.to - 1 + d, c.from - d} {
			if j < 0 || j >= len(s) || p.linked[j] || !opinionated(&s[j]) || s[j].class == adverb && s[j].flags == 0 {
				continue
			}
			lo, hi := min(j, c.to), max(j, c.from)
			if !slices.ContainsFunc(s[lo:hi], func(t tagged) bool { return t.class == mark || t.flags&isConjunction != 0 }) {
				p.link(c, j, true)
				return
			}
		}
	}
	p.events = append(p.events, event{phrase: c.id, opinion: -1, sentence: p.number})
}

// scope is how far a negation reaches, in words.
const scope = 5

// negated says whether the opinion at j stands in the scope of a negation.
func negated(s []tagged, j int) bool {
	n := 0
	for i := j - 1; i >= 0 && i >= j-scope; i-- {
		w := s[i].word
		if s[i].class == mark || w == "but" || w == "because" || w == "although" || w == "though" {
			break
		}
		if s[i].flags&isNegator != 0 && !(w == "not" && s[i+1].word == "only") {
			n++
		}
	}
	if n > 0 && comparatives[s[j].word] {
		return false // "couldn't be better"
	}
	return n%2 == 1
}

var comparatives = set(`better happier easier nicer cleaner`)
