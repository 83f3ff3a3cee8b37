package policy

import (
	"math"
	"strings"
)

// Metrics is what one step reports; the JSON names are those of metrics.jsonl.
type Metrics struct {
	Step         int            `json:"step"`
	Texts        int            `json:"texts"`
	Tokens       int            `json:"tokens"`
	Reward       float64        `json:"reward"`        // mean over usable texts
	RewardSpread float64        `json:"reward_spread"` // mean standard deviation among the alternatives of a group
	Scale        float64        `json:"advantage_scale"`
	KL           KL             `json:"kl"`         // of the sampling policy from the reference
	KLAfter      float64        `json:"kl_after"`   // k1 on the same texts, in the last pass made
	Beta         float64        `json:"beta"`       // used in this step
	BetaNext     float64        `json:"beta_next"`  // to be used in the next
	Entropy      float64        `json:"entropy"`    // −mean log π_old, nats per token
	Distinct1    float64        `json:"distinct_1"` // distinct words / words, over the batch
	Distinct2    float64        `json:"distinct_2"`
	Unique       float64        `json:"unique"` // distinct sentences / sentences
	Rejected     float64        `json:"rejected"`
	Loose        float64        `json:"loose"`
	Loss         float64        `json:"loss"`        // mean over minibatches
	ClipShare    float64        `json:"clip_share"`  // new tokens where the surrogate was flat
	SamplerGap   float64        `json:"sampler_gap"` // mean |log π of trainer − of sampler| before the first update, nats per token
	SoftGrad     float64        `json:"soft_grad"`   // gradient norm of the projection, mean over optimiser steps
	Updates      int            `json:"updates"`     // optimiser steps made
	EarlyStop    bool           `json:"early_stop"`
	Quarantined  map[Reason]int `json:"quarantined,omitempty"`
	Alarms       []Alarm        `json:"alarms,omitempty"`
}

// Alarm is a metric beyond its limit.
type Alarm struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	Stop  bool    `json:"stop"` // training further would make it worse: fall back to the last good version
}

// Limits are the thresholds of the alarms. A zero disables one.
type Limits struct {
	MaxRejected   float64 // share of texts without a usable sentence; stops
	MinEntropy    float64 // nats per token
	MinUnique     float64 // distinct sentences per sentence
	MaxKL         float64 // nats per sequence; stops
	MaxSamplerGap float64 // nats per token
}

// DefaultLimits returns the limits used when the user sets none.
func DefaultLimits() Limits {
	return Limits{MaxRejected: .5, MinEntropy: .02, MinUnique: .05, MaxKL: 30, MaxSamplerGap: .05}
}

func (l Limits) check(m Metrics) []Alarm {
	var out []Alarm
	above := func(name string, v, limit float64, stop bool) {
		if limit > 0 && !(v <= limit) {
			out = append(out, Alarm{name, v, limit, stop})
		}
	}
	below := func(name string, v, limit float64) {
		if limit > 0 && !(v >= limit) {
			out = append(out, Alarm{name, v, limit, false})
		}
	}
	above("rejected", m.Rejected, l.MaxRejected, true)
	above("kl", m.KL.K1, l.MaxKL, true)
	above("sampler_gap", m.SamplerGap, l.MaxSamplerGap, false)
	if m.Tokens > 0 {
		below("entropy", m.Entropy, l.MinEntropy)
	}
	if m.Rejected < 1 {
		below("unique", m.Unique, l.MinUnique)
	}
	return out
}

// describe fills what can be said of the batch before any update.
func (m *Metrics) describe(groups []Group) {
	var kl KL
	var usable, sequences, spreads float64
	words, bigrams, sentences := map[string]bool{}, map[[2]string]bool{}, map[string]bool{}
	var nWords, nBigrams int
	for _, g := range groups {
		var sum, square, n float64
		for _, t := range g.Texts {
			m.Texts++
			m.Tokens += len(t.Tokens)
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
			m.Reward += t.Reward
			sum, square, n = sum+t.Reward, square+t.Reward*t.Reward, n+1
			sentences[t.Sentence] = true
			before := ""
			for i, w := range strings.Fields(strings.ToLower(t.Sentence)) {
				words[w] = true
				nWords++
				if i > 0 {
					bigrams[[2]string{before, w}] = true
					nBigrams++
				}
				before = w
			}
		}
		if n > 1 {
			m.RewardSpread += math.Sqrt(math.Max(0, square/n-sum*sum/(n*n)) * n / (n - 1))
			spreads++
		}
	}
	ratio := func(a, b float64) float64 { return a / math.Max(1, b) }
	m.KL = kl.over(int(sequences))
	m.Entropy = ratio(m.Entropy, float64(m.Tokens))
	m.Reward = ratio(m.Reward, usable)
	m.RewardSpread = ratio(m.RewardSpread, spreads)
	m.Rejected, m.Loose = ratio(m.Rejected, float64(m.Texts)), ratio(m.Loose, float64(m.Texts))
	m.Distinct1, m.Distinct2 = ratio(float64(len(words)), float64(nWords)), ratio(float64(len(bigrams)), float64(nBigrams))
	m.Unique = ratio(float64(len(sentences)), usable)
}
