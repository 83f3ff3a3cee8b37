package policy

import (
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// distinctTexts bounds the sentences whose words are counted: a language has few words, so the share of distinct ones falls with the number of
	// sentences, and steps of different sizes could not be compared.
	distinctTexts = 256
	// sampleTexts is how many texts a step shows, and sampleBytes how much of each.
	sampleTexts = 10
	sampleBytes = 600
)

// describe fills what can be said of the batch before any update.
func (m *Metrics) describe(groups []Group) {
	var kl KL
	var usable, sequences, spreads, spread float64
	var all moments
	var texts []Text
	var sentences []string
	distinct := map[string]bool{}
	for _, g := range groups {
		var one moments
		for _, t := range g.Texts {
			texts = append(texts, t)
			m.Tokens += len(t.Tokens)
			m.Longest = max(m.Longest, len(t.Tokens))
			if len(t.Tokens) > 0 {
				sequences++
			}
			for i, lp := range t.Logprobs {
				m.Entropy -= float64(lp)
				if i < len(t.Ref) {
					kl.addToken(float64(lp) - float64(t.Ref[i]))
				}
			}
			switch {
			case t.Rejected:
				m.Rejected++
				continue
			case t.Loose:
				m.Loose++
			}
			usable++
			all.add(t.Reward)
			one.add(t.Reward)
			distinct[t.Sentence] = true
			sentences = append(sentences, t.Sentence)
		}
		if one.n > 1 {
			spread += one.sd()
			spreads++
		}
	}
	m.Texts = len(texts)
	n := float64(m.Texts)
	m.KL = kl.over(int(sequences))
	m.Entropy = ratio(m.Entropy, float64(m.Tokens))
	m.Reward, m.RewardSD, m.RewardSpread = all.mean, all.sd(), ratio(spread, spreads)
	m.Rejected, m.Loose, m.Valid = ratio(m.Rejected, n), ratio(m.Loose, n), ratio(usable, n)
	m.Length = ratio(float64(m.Tokens), n)
	m.Distinct1, m.Distinct2 = distinctWords(spreadOut(sentences, distinctTexts))
	m.Unique = ratio(float64(len(distinct)), usable)
	m.Samples = nil
	for _, t := range spreadOut(texts, sampleTexts) {
		m.Samples = append(m.Samples, t.sample())
	}
}

// sample shows a text: its sentence, or what was written in place of one.
func (t Text) sample() Sample {
	s := Sample{Text: t.Sentence, Valid: !t.Rejected, Loose: !t.Rejected && t.Loose, Reward: t.Reward, Tokens: len(t.Tokens)}
	if t.Rejected {
		s.Text, s.Reward = t.Raw, 0
	}
	if len(s.Text) > sampleBytes {
		cut := sampleBytes
		for cut > 0 && !utf8.RuneStart(s.Text[cut]) {
			cut--
		}
		s.Text = s.Text[:cut] + "…"
	}
	return s
}

// spreadOut returns at most n of xs at even distances, the first among them.
func spreadOut[T any](xs []T, n int) []T {
	if len(xs) <= n {
		return xs
	}
	out := make([]T, n)
	for i := range out {
		out[i] = xs[i*len(xs)/n]
	}
	return out
}

// distinctWords returns distinct-1 and distinct-2 (Li et al. 2016): distinct words, and pairs of neighbouring words, per word and pair.
func distinctWords(sentences []string) (one, two float64) {
	words, pairs := map[string]bool{}, map[[2]string]bool{}
	var nWords, nPairs float64
	for _, s := range sentences {
		before := ""
		for i, w := range strings.Fields(strings.ToLower(s)) {
			words[w] = true
			nWords++
			if i > 0 {
				pairs[[2]string{before, w}] = true
				nPairs++
			}
			before = w
		}
	}
	return ratio(float64(len(words)), nWords), ratio(float64(len(pairs)), nPairs)
}

// moments follows a mean and a variance number by number (Welford 1962): sums of squares of rewards that are nearly equal would cancel.
type moments struct{ n, mean, m2 float64 }

func (s *moments) add(x float64) {
	s.n++
	d := x - s.mean
	s.mean += d / s.n
	s.m2 += d * (x - s.mean)
}

// sd is the standard deviation of the sample, 0 of a single number.
func (s *moments) sd() float64 { return math.Sqrt(s.m2 / math.Max(1, s.n-1)) }

func ratio(a, b float64) float64 { return a / math.Max(1, b) }
