package policy

// Metrics is what one step reports; the JSON names are those of metrics.jsonl.
type Metrics struct {
	Step         int            `json:"step"`
	Texts        int            `json:"texts"`
	Tokens       int            `json:"tokens"`
	Reward       float64        `json:"reward"`        // mean over usable texts
	RewardSD     float64        `json:"reward_sd"`     // standard deviation over usable texts
	RewardSpread float64        `json:"reward_spread"` // mean standard deviation among the alternatives of a group
	Scale        float64        `json:"advantage_scale"`
	KL           KL             `json:"kl"`         // of the sampling policy from the reference
	KLAfter      float64        `json:"kl_after"`   // k1 on the same texts, in the last pass made
	Beta         float64        `json:"beta"`       // used in this step
	BetaNext     float64        `json:"beta_next"`  // to be used in the next
	Entropy      float64        `json:"entropy"`    // −mean log π_old, nats per token
	Distinct1    float64        `json:"distinct_1"` // distinct words / words, over at most distinctTexts sentences
	Distinct2    float64        `json:"distinct_2"` // the same of pairs of neighbouring words
	Unique       float64        `json:"unique"`     // distinct sentences / sentences
	Valid        float64        `json:"valid"`      // share of texts that hold a usable sentence, 1 − Rejected
	Rejected     float64        `json:"rejected"`
	Loose        float64        `json:"loose"`
	Length       float64        `json:"length"`      // tokens per text, mean
	Longest      int            `json:"longest"`     // tokens of the longest text
	Loss         float64        `json:"loss"`        // mean over minibatches
	ClipShare    float64        `json:"clip_share"`  // new tokens where the surrogate was flat
	SamplerGap   float64        `json:"sampler_gap"` // mean |log π of trainer − of sampler| before the first update, nats per token
	SoftGrad     float64        `json:"soft_grad"`   // gradient norm of the projection, mean over optimiser steps
	Updates      int            `json:"updates"`     // optimiser steps made
	EarlyStop    bool           `json:"early_stop"`
	Quarantined  map[Reason]int `json:"quarantined,omitempty"`
	Alarms       []Alarm        `json:"alarms,omitempty"`
	Samples      []Sample       `json:"samples,omitempty"` // a few of the texts, spread over the batch
}

// Sample is a sampled text as a person would read it. It comes from a language model: whoever shows it must not trust it.
type Sample struct {
	Text   string  `json:"text"`
	Valid  bool    `json:"valid"`
	Loose  bool    `json:"loose,omitempty"`
	Reward float64 `json:"reward"` // 0 for a text without a usable sentence
	Tokens int     `json:"tokens"`
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
	MinDistinct   float64 // Metrics.Distinct2: sentences may differ in a word and still be one sentence over and over
	MaxKL         float64 // nats per sequence; stops
	MaxSamplerGap float64 // nats per token
}

// DefaultLimits returns the limits used when the user sets none.
func DefaultLimits() Limits {
	return Limits{MaxRejected: .5, MinEntropy: .02, MinUnique: .05, MinDistinct: .01, MaxKL: 30, MaxSamplerGap: .05}
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
		below("distinct_2", m.Distinct2, l.MinDistinct)
	}
	return out
}
