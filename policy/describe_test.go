package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

// Every number of a small batch, counted by hand.
func TestDescribe(t *testing.T) {
	groups := []Group{
		{Texts: []Text{
			{Tokens: []int32{1, 2}, Logprobs: []float32{-1, -2}, Ref: []float32{-1.5, -2}, Sentence: "a b a b", Reward: .8},
			{Tokens: []int32{1}, Logprobs: []float32{-3}, Ref: []float32{-2}, Sentence: "A B c", Reward: .6, Loose: true},
		}},
		{Texts: []Text{
			{Tokens: []int32{1, 2, 3}, Logprobs: []float32{-1, -1, -1}, Ref: []float32{-1, -1, -1}, Raw: "<b>nothing</b>", Rejected: true, Reward: math.NaN()},
			{Tokens: []int32{1, 2}, Logprobs: []float32{-1, -1}, Ref: []float32{-1, -1}, Sentence: "a b a b", Reward: .7},
		}},
	}
	var m Metrics
	m.describe(groups)
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"texts", float64(m.Texts), 4}, {"tokens", float64(m.Tokens), 8}, {"length", m.Length, 2}, {"longest", float64(m.Longest), 3},
		{"reward", m.Reward, .7}, {"reward_sd", m.RewardSD, .1}, {"reward_spread", m.RewardSpread, math.Sqrt(.02)},
		{"valid", m.Valid, .75}, {"rejected", m.Rejected, .25}, {"loose", m.Loose, .25}, {"unique", m.Unique, 2. / 3},
		{"entropy", m.Entropy, 11. / 8},
		{"k1", m.KL.K1, (.5 - 1) / 4}, {"k2", m.KL.K2, (.125 + .5) / 4}, {"k3", m.KL.K3, (math.Exp(-.5) - 1 + .5 + math.E - 1 - 1) / 4},
		{"distinct_1", m.Distinct1, 3. / 11}, {"distinct_2", m.Distinct2, 3. / 8}, // ab, ba, bc
	} {
		near(t, c.what, c.got, c.want)
	}
	if len(m.Samples) != 4 || m.Samples[2] != (Sample{Text: "<b>nothing</b>", Tokens: 3}) || m.Samples[1] != (Sample{Text: "A B c", Valid: true, Loose: true, Reward: .6, Tokens: 1}) {
		t.Errorf("samples %+v", m.Samples)
	}
	if _, err := json.Marshal(m); err != nil {
		t.Errorf("the metrics of a batch with a rejected text are no JSON: %v", err)
	}
}

// An empty batch has no NaN, which JSON has not.
func TestDescribeNothing(t *testing.T) {
	var m Metrics
	m.describe(nil)
	m.describe([]Group{{Texts: []Text{{Rejected: true}}}})
	if _, err := json.Marshal(m); err != nil {
		t.Error(err)
	}
}

// Ten texts are shown, from all over the batch, whole runes and no longer than people read; words are counted over a bounded sample, so that
// the share of distinct ones does not fall with the size of the batch.
func TestSamplesAreBounded(t *testing.T) {
	var groups []Group
	for g := range 1000 {
		groups = append(groups, Group{Texts: []Text{{Sentence: fmt.Sprintf("user %d", g), Reward: 1}, {Rejected: true, Raw: strings.Repeat("é", 1000)}}})
	}
	var m Metrics
	m.describe(groups)
	if len(m.Samples) != 10 || m.Samples[0].Text != "user 0" {
		t.Fatalf("%d samples, the first %q", len(m.Samples), m.Samples[0].Text)
	}
	if last := m.Samples[9].Text; last == m.Samples[0].Text || len(last) > sampleBytes+len("…") {
		t.Errorf("the last sample is %q", last)
	}
	if s := (Text{Rejected: true, Raw: "x" + strings.Repeat("é", 1000)}).sample().Text; !strings.HasSuffix(s, "é…") || len(s) > sampleBytes+len("…") {
		t.Errorf("cut to %d bytes, ending in %q", len(s), s[len(s)-6:])
	}
	near(t, "distinct_1", m.Distinct1, 257./512)
	near(t, "distinct_2", m.Distinct2, 1)
}

// One sentence with a word changed each time passes the alarm on unique sentences and not that on pairs of words.
func TestDistinctAlarmSeesCollapse(t *testing.T) {
	var groups []Group
	for g := range 200 {
		groups = append(groups, Group{Texts: []Text{{Reward: 1, Sentence: strings.Repeat("the user likes it and ", 40) + fmt.Sprint(g)}}})
	}
	var m Metrics
	m.describe(groups)
	if alarms := DefaultLimits().check(m); len(alarms) != 1 || alarms[0].Name != "distinct_2" {
		t.Errorf("alarms of the default limits %v at distinct-2 %.4f", alarms, m.Distinct2)
	}
	l := Limits{MinUnique: .5, MinDistinct: .05}
	alarms := l.check(m)
	if len(alarms) != 1 || alarms[0].Name != "distinct_2" || alarms[0].Stop {
		t.Errorf("alarms %v at distinct-2 %.4f and unique %.4f", alarms, m.Distinct2, m.Unique)
	}
	l.MinDistinct = 0
	if alarms = l.check(m); len(alarms) != 0 {
		t.Errorf("a limit of 0 rang: %v", alarms)
	}
}
