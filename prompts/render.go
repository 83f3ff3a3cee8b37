package prompts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"recpie/internal/dataset"
	"recpie/internal/dataset/terms"
	"recpie/internal/fault"
)

// version names the layout of the prompts. It is part of every digest: change it whenever a rendered byte changes.
const version = "prompts-3"

// Counter counts the tokens that a text costs the served model.
type Counter interface{ Count(text string) int }

// Terms describes a record's item by terms with two verdicts each, the record's own outcome left out.
type Terms interface {
	For(rec int32) []terms.Candidate
	Names() []string
}

// Settings say what a prompt shows. See DefaultSettings.
type Settings struct {
	History     int     `json:"history"`      // most recent records shown at most; the window moves in blocks of half of it
	Terms       int     `json:"terms"`        // terms of the candidate shown at most
	Taste       bool    `json:"taste"`        // show the user's verdict per term
	Opinions    bool    `json:"opinions"`     // show other users' verdict per term
	Redact      bool    `json:"redact"`       // leave out what comes from reviews and what reaches a person; overrules Opinions
	TokenBudget int     `json:"token_budget"` // tokens of the text at most, 0: no limit; needs Counter
	Counter     Counter `json:"-"`
	Items       Items   `json:"-"` // what is known of items beside their own fields; nil: nothing
}

// Items tells of items what their own fields do not: profiles that a model wrote, terms that reviews speak of. Of both, what may be known when
// record rec is the target.
type Items interface {
	Profile(item, rec int32) string // stands in the place of the item's own; "" for none
	Terms(item, rec int32) []string // shown of an item without any profile, the most characteristic first
	Digest() string                 // of all that they can say
}

// DefaultSettings shows ten records of history and eight terms with both verdicts, without a limit on tokens.
func DefaultSettings() Settings { return Settings{History: 10, Terms: 8, Taste: true, Opinions: true} }

// Prompt is the text of the user's message, to stand after the soft rows.
type Prompt struct {
	Text   string
	Shared int // Text[:Shared] is the same in both prompts of a pair
}

// Renderer writes prompts for the records of a data set. It is safe for concurrent use.
type Renderer struct {
	set      Settings
	view     *dataset.View
	ds       *dataset.Dataset
	terms    Terms
	wording  Wording
	names    []string         // clean names of the terms, "" when nothing is left
	lookup   map[string]int32 // clean name → term
	longest  int              // words of the longest name
	digest   string
	redactor *redactor
	items    []atomic.Pointer[itemText] // cleaned once, on first use: an item stands in many prompts
	cleaned  sync.Map                   // texts of Settings.Items, by what they were
}

// New returns a renderer that shows of outcomes what view shows. tt may be nil: then no terms are shown.
func New(s Settings, view *dataset.View, tt Terms) (*Renderer, error) {
	const op = "prompts"
	if s.History < 0 || s.Terms < 0 || s.TokenBudget < 0 {
		return nil, fault.Newf(fault.Fatal, op, "history %d, terms %d, token budget %d: none may be negative", s.History, s.Terms, s.TokenBudget)
	}
	if s.TokenBudget > 0 && s.Counter == nil {
		return nil, fault.Newf(fault.Fatal, op, "a token budget needs a counter of tokens")
	}
	w, err := NewWording(view.Dataset().Spec.Verb)
	if err != nil {
		return nil, err
	}
	if s.Redact {
		s.Opinions = false
		if fromReviews(tt) {
			tt = nil
		}
	}
	r := &Renderer{set: s, view: view, ds: view.Dataset(), terms: tt, wording: w, lookup: map[string]int32{}}
	if s.Redact {
		r.redactor = newRedactor(r.ds.Users)
	}
	r.items = make([]atomic.Pointer[itemText], len(r.ds.Items))
	if tt != nil {
		r.setNames(tt.Names())
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%+v\n%d %d %v %v %d\n", version, view.Split().Digest, view.Digest(), w, s.History, s.Terms, s.Taste, s.Opinions, s.TokenBudget)
	for _, n := range r.names {
		fmt.Fprintf(h, "%q\n", n)
	}
	if s.Redact {
		fmt.Fprintf(h, "redacted 1\n")
	}
	if s.Items != nil {
		fmt.Fprintf(h, "items %s\n", s.Items.Digest())
	}
	r.digest = hex.EncodeToString(h.Sum(nil))
	return r, nil
}

// Digest names everything that a rendered prompt depends on but the record and the token counter: split, visible outcomes and item texts, settings,
// vocabulary, layout. It belongs into the key of every cache of prompts or explanations.
func (r *Renderer) Digest() string { return r.digest }

// Wording returns the words of the data's domain, which Parse needs.
func (r *Renderer) Wording() Wording { return r.wording }

// Render writes one of the two prompts of a record. A record that does not fit the token budget even without history, profile text and
// terms is an Item error.
func (r *Renderer) Render(rec int32, pol Polarity) (Prompt, error) {
	if rec < 0 || int(rec) >= len(r.ds.Records) {
		return Prompt{}, fault.Newf(fault.Item, "prompts: render", "record %d of %d", rec, len(r.ds.Records))
	}
	shared, err := r.shared(rec)
	if err != nil {
		return Prompt{}, err
	}
	return Prompt{shared + r.wording.Instruction(pol), len(shared)}, nil
}

// shared writes history and candidate, leaving out what the budget does not allow: the oldest history first, then the profile's text, then terms
// from the last. Both instructions must fit, so that the pair's two prompts share this part.
func (r *Renderer) shared(rec int32) (string, error) {
	history := r.history(rec)
	item := r.known(r.ds.Records[rec].Item, rec)
	head, profile := item.head, item.profile
	verdicts := r.verdicts(rec)
	for {
		text := r.assemble(history, head, profile, verdicts)
		switch {
		case r.fits(text):
			return text, nil
		case len(history) > 0:
			history = history[1:]
		case profile != "":
			profile = cut(profile, len([]rune(profile))/2)
		case len(verdicts) > 0:
			verdicts = verdicts[:len(verdicts)-1]
		default:
			return "", fault.WithHint(
				fault.Newf(fault.Item, "prompts: render", "record %d does not fit %d tokens even without history, profile and terms", rec, r.set.TokenBudget),
				"raise the token budget; the instruction alone takes about a hundred tokens")
		}
	}
}

func (r *Renderer) fits(shared string) bool {
	if r.set.TokenBudget == 0 {
		return true
	}
	for _, pol := range Polarities {
		if r.set.Counter.Count(shared+r.wording.Instruction(pol)) > r.set.TokenBudget {
			return false
		}
	}
	return true
}

func (r *Renderer) assemble(history []string, head, profile string, verdicts []string) string {
	var b strings.Builder
	if len(history) == 0 {
		b.WriteString("Past " + r.wording.plural() + ": none known\n")
	} else {
		b.WriteString("Past " + r.wording.plural() + " the user " + r.wording.Past + ", oldest first:\n")
	}
	for _, line := range history {
		b.WriteString("- " + line + "\n")
	}
	b.WriteString("Current " + r.wording.Noun + ":\n" + head)
	if profile != "" {
		b.WriteString("- profile: " + profile + "\n")
	}
	if len(verdicts) > 0 {
		b.WriteString(r.verdictsHeader())
	}
	for _, line := range verdicts {
		b.WriteString("- " + line + "\n")
	}
	return b.String()
}

// history returns the lines of the window, oldest first. The window ends at the most recent record; its start is the smallest multiple of the block
// that leaves at most History records, so it stands still while the history grows by a block and the user's prompts share their beginning.
func (r *Renderer) history(rec int32) []string {
	if r.set.History == 0 {
		return nil
	}
	past := r.view.History(rec)
	block := max(1, r.set.History/2)
	start := 0
	for len(past)-start > r.set.History {
		start += block
	}
	var lines []string
	for _, p := range past[start:] {
		line := r.known(r.ds.Records[p].Item, rec).label
		if rating, ok := r.view.Rating(p); ok {
			line += ", rated " + number(rating) + " of " + number(r.ds.Spec.Max)
		}
		lines = append(lines, line)
	}
	return lines
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
