package tune

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Values are settings by name, as text that a settings file would hold.
type Values map[string]string

// Range is what one setting may be: numbers from Low to High, or one of Choices.
type Range struct {
	Low, High float64
	Log       bool     // drawn uniformly in the logarithm
	Whole     bool     // whole numbers
	Choices   []string // instead of numbers, at least two
}

// Param is a setting with its range.
type Param struct {
	Name  string
	Range Range
}

// Space lists what is searched, by ascending name.
type Space []Param

// digits is the precision of drawn numbers: more than a validation error can tell apart, and short enough to read.
const digits = 4

// ParseRange reads LOW..HIGH, log:LOW..HIGH or choice:A,B,C. With whole the numbers are whole.
func ParseRange(text string, whole bool) (Range, error) {
	if list, ok := strings.CutPrefix(text, "choice:"); ok {
		return parseChoices(list)
	}
	r := Range{Whole: whole}
	ends := text
	if ends, r.Log = strings.CutPrefix(text, "log:"); !r.Log {
		ends = text
	}
	low, high, ok := strings.Cut(ends, "..")
	if !ok {
		return Range{}, fmt.Errorf("%q is no range: write LOW..HIGH, log:LOW..HIGH or choice:A,B,C", text)
	}
	for _, end := range []struct {
		text string
		to   *float64
	}{{low, &r.Low}, {high, &r.High}} {
		x, err := strconv.ParseFloat(strings.TrimSpace(end.text), 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return Range{}, fmt.Errorf("%q in %q is no number", end.text, text)
		}
		if whole && x != math.Trunc(x) {
			return Range{}, fmt.Errorf("%q in %q is no whole number", end.text, text)
		}
		*end.to = x
	}
	switch {
	case !(r.Low < r.High) || math.IsInf(r.High-r.Low, 0):
		return Range{}, fmt.Errorf("%q is empty: the first number must be below the second", text)
	case r.Log && r.Low <= 0:
		return Range{}, fmt.Errorf("%q: a range in the logarithm must be above 0", text)
	}
	return r, nil
}

func parseChoices(list string) (Range, error) {
	var r Range
	for c := range strings.SplitSeq(list, ",") {
		c = strings.TrimSpace(c)
		if c == "" {
			return Range{}, fmt.Errorf("%q has an empty choice", "choice:"+list)
		}
		if slices.Contains(r.Choices, c) {
			return Range{}, fmt.Errorf("%q names %s twice", "choice:"+list, c)
		}
		r.Choices = append(r.Choices, c)
	}
	if len(r.Choices) < 2 {
		return Range{}, fmt.Errorf("%q leaves nothing to choose: name at least two", "choice:"+list)
	}
	return r, nil
}

// String returns the range as ParseRange reads it.
func (r Range) String() string {
	if len(r.Choices) > 0 {
		return "choice:" + strings.Join(r.Choices, ",")
	}
	s := strconv.FormatFloat(r.Low, 'g', -1, 64) + ".." + strconv.FormatFloat(r.High, 'g', -1, 64)
	if r.Log {
		s = "log:" + s
	}
	return s
}

// draw returns a value of the range.
func (r Range) draw(rng *rand.Rand) string {
	if len(r.Choices) > 0 {
		return r.Choices[rng.IntN(len(r.Choices))]
	}
	low, high := r.Low, r.High
	if r.Whole { // each whole number owns the unit around it
		low, high = low-.5, high+.5
	}
	x := low + rng.Float64()*(high-low)
	if r.Log {
		low, high = math.Log(low), math.Log(high)
		x = math.Exp(low + rng.Float64()*(high-low))
	}
	if r.Whole {
		return strconv.FormatFloat(min(max(math.Round(x), r.Low), r.High), 'f', -1, 64)
	}
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', digits, 64), 64)
	return strconv.FormatFloat(min(max(x, r.Low), r.High), 'g', -1, 64)
}

// Draw returns the values of a trial. Every setting has a draw of its own: one more in the space leaves those of the others as they were.
func (s Space) Draw(seed int64, trial int) Values {
	v := make(Values, len(s))
	for _, p := range s {
		h := sha256.Sum256(fmt.Appendf(nil, "recpie tune 1\n%d\n%d\n%s", seed, trial, p.Name))
		v[p.Name] = p.Range.draw(rand.New(rand.NewPCG(binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:]))))
	}
	return v
}

// sort puts the space in order; a name that is there twice is an error.
func (s Space) sort() error {
	slices.SortFunc(s, func(a, b Param) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(s); i++ {
		if s[i].Name == s[i-1].Name {
			return fmt.Errorf("%s is given twice", s[i].Name)
		}
	}
	return nil
}
