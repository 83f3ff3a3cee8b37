package loadgen

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Threshold is a condition on a report that must not hold, as p99_ttft>500ms.
type Threshold struct {
	Metric string
	Op     string  // one of > >= < <=
	Value  float64 // milliseconds, a share, or a number, as the metric is
}

// kind says how a metric's value is written.
type kind int

const (
	milli  kind = iota // a duration, as 500ms
	share              // as 0.05 or 5%
	number             // as 12.5
)

// metric reads a figure out of a report; ok is false where nothing was measured.
type metric struct {
	kind kind
	read func(*Report) (v float64, ok bool)
}

var latencies = map[string]func(*Report) *Latency{
	"ttft": func(r *Report) *Latency { return &r.TTFT }, "tpot": func(r *Report) *Latency { return &r.TPOT },
	"itl": func(r *Report) *Latency { return &r.ITL }, "e2e": func(r *Report) *Latency { return &r.E2E },
	"failure": func(r *Report) *Latency { return &r.Failure }, "send_lag": func(r *Report) *Latency { return &r.SendLag },
}

var statistics = map[string]func(*Latency) float64{
	"mean": func(l *Latency) float64 { return l.Mean }, "p50": func(l *Latency) float64 { return l.P50 },
	"p90": func(l *Latency) float64 { return l.P90 }, "p99": func(l *Latency) float64 { return l.P99 },
	"max": func(l *Latency) float64 { return l.Max },
}

// metrics are what thresholds can speak of.
var metrics = func() map[string]metric {
	all := map[string]metric{
		"error_rate": {share, func(r *Report) (float64, bool) {
			n := r.Succeeded + r.Failed
			return float64(r.Failed) / float64(max(1, n)), n > 0
		}},
		"goodput": {share, func(r *Report) (float64, bool) {
			if r.Goodput == nil {
				return 0, false
			}
			return r.Goodput.Share, r.Succeeded+r.Failed > 0
		}},
		"prefix_cache_hit": {share, func(r *Report) (float64, bool) {
			if r.PrefixCacheHit == nil {
				return 0, false
			}
			return *r.PrefixCacheHit, true
		}},
		"requests_per_second":      {number, func(r *Report) (float64, bool) { return r.RequestsPerSecond, r.Seconds > 0 }},
		"output_tokens_per_second": {number, func(r *Report) (float64, bool) { return r.OutputTokensPerSecond, r.Seconds > 0 }},
	}
	for l, latency := range latencies {
		for s, statistic := range statistics {
			all[s+"_"+l] = metric{milli, func(r *Report) (float64, bool) { return statistic(latency(r)), latency(r).Samples > 0 }}
		}
	}
	return all
}()

// Metrics lists the names that thresholds can speak of, in order.
func Metrics() []string {
	names := make([]string, 0, len(metrics))
	for n := range metrics {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// ParseThreshold reads METRIC OP VALUE: a duration for latencies, a number or per cent for shares, a number for rates.
func ParseThreshold(text string) (Threshold, error) {
	at := strings.IndexAny(text, "<>")
	if at < 0 {
		return Threshold{}, fmt.Errorf("%q is no threshold: write it as p99_ttft>500ms", text)
	}
	t := Threshold{Metric: strings.TrimSpace(text[:at]), Op: text[at : at+1]}
	rest, equal := strings.CutPrefix(text[at+1:], "=")
	if equal {
		t.Op += "="
	}
	m, ok := metrics[t.Metric]
	if !ok {
		return Threshold{}, fmt.Errorf("threshold %q: no figure %q; there are %s", text, t.Metric, strings.Join(Metrics(), ", "))
	}
	v, err := m.kind.parse(strings.TrimSpace(rest))
	if err != nil {
		return Threshold{}, fmt.Errorf("threshold %q: %w", text, err)
	}
	t.Value = v
	return t, nil
}

func (k kind) parse(s string) (float64, error) {
	if k == milli {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%q is no duration, as 500ms", s)
		}
		return milliseconds(d), nil
	}
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || percent && k != share {
		return 0, fmt.Errorf("%q is no number from 0 up", s)
	}
	if percent {
		v /= 100
	}
	return v, nil
}

func (k kind) format(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if k == milli {
		return s + "ms"
	}
	return s
}

// String returns the threshold as ParseThreshold reads it.
func (t Threshold) String() string {
	return t.Metric + t.Op + metrics[t.Metric].kind.format(t.Value)
}

// Broken tells whether the report breaks the threshold, and how. A figure that was not measured breaks every threshold on it: a
// check that checked nothing must not pass.
func (t Threshold) Broken(r *Report) (how string, broken bool) {
	m := metrics[t.Metric]
	v, ok := m.read(r)
	if !ok {
		return fmt.Sprintf("%s: %s was not measured", t, t.Metric), true
	}
	switch t.Op {
	case ">":
		broken = v > t.Value
	case ">=":
		broken = v >= t.Value
	case "<":
		broken = v < t.Value
	default:
		broken = v <= t.Value
	}
	if !broken {
		return "", false
	}
	return fmt.Sprintf("%s: %s is %s", t, t.Metric, m.kind.format(round(v))), true
}

// round keeps four digits, for people.
func round(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return v
}

// ParseSLO reads objectives as ttft=500ms,tpot=50ms,e2e=10s.
func ParseSLO(text string) (SLO, error) {
	var s SLO
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		d, err := time.ParseDuration(strings.TrimSpace(value))
		if !ok || err != nil || d <= 0 {
			return SLO{}, fmt.Errorf("objective %q: write it as ttft=500ms", part)
		}
		to := map[string]*time.Duration{"ttft": &s.TTFT, "tpot": &s.TPOT, "e2e": &s.E2E}[strings.TrimSpace(name)]
		if to == nil {
			return SLO{}, fmt.Errorf("objective %q: there are ttft, tpot and e2e", part)
		}
		if *to != 0 {
			return SLO{}, fmt.Errorf("objective %q is given twice", part)
		}
		*to = d
	}
	return s, nil
}
