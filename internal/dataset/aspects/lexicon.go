package aspects

import (
	"cmp"
	"math"
	"strings"
)

// Constants of the opinion lexicon, in records and in units of y ∈ [0,1].
const (
	seedRecords = 10  // a seed begins as if so many records had it,
	seedShift   = .2  // rated so far from the mean
	shrink      = 5   // records' worth of the mean in any other word
	leastUses   = 5   // records that a word needs
	leastZ      = 2.5 // standard errors that its mean must lie from that of all
	leastShift  = .02 // and its distance
	inverted    = .5  // weight of a negated use: "not bad" says less of "bad" than "bad" does
)

// use sums y over the records of one fold that use a word, plainly and negated.
type use struct{ n, y, negatedN, negatedY float64 }

func (u *use) add(o use) {
	u.n, u.y, u.negatedN, u.negatedY = u.n+o.n, u.y+o.y, u.negatedN+o.negatedN, u.negatedY+o.negatedY
}

// moments are the count, sum and sum of squares of y over the records of one fold.
type moments struct{ n, y, yy float64 }

// prior is what is known of a word before any record: −1, 0 or +1.
func prior(word string) float64 {
	if strings.HasPrefix(word, "too ") {
		return -1
	}
	switch f := flags[word]; {
	case f&isGood != 0:
		return 1
	case f&isBad != 0:
		return -1
	}
	return 0
}

// sign is the polarity of a word with this strength: what is known beforehand holds. "Good" speaks well of a thing, though reviews that say no
// better than "good" may be below the mean.
func sign(prior float64, strength float32) int {
	switch x := cmp.Or(prior, float64(strength)); {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// strength is what a word says in favour (above 0) or against: the shrunken distance of the mean y of its records from that of all, 0 for
// a word that says nothing certain.
func strength(u use, prior float64, all moments) float32 {
	if all.n == 0 {
		return float32(prior * seedShift)
	}
	mean := all.y / all.n
	sd := math.Sqrt(max(1e-6, all.yy/all.n-mean*mean))
	n := u.n + inverted*u.negatedN
	sum := u.y - mean*u.n - inverted*(u.negatedY-mean*u.negatedN)
	if prior != 0 {
		return float32((sum + prior*seedShift*seedRecords) / (n + seedRecords))
	}
	shift := sum / (n + shrink)
	if n < leastUses || math.Abs(sum) < leastZ*sd*math.Sqrt(n) || math.Abs(shift) < leastShift {
		return 0
	}
	return float32(shift)
}
