package orchestrator

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/policy"
)

// stepLine is a policy step in metrics.jsonl.
type stepLine struct {
	Round   int    `json:"round"`
	Version string `json:"version"`
	policy.Metrics
}

// policySteps reads the lines of all policy steps.
func (m *Metrics) policySteps() ([]stepLine, error) { return lines[stepLine](m, "step/") }

// lines reads the rows under a prefix of their keys.
func lines[T any](m *Metrics, prefix string) ([]T, error) {
	rows := m.Rows(prefix)
	out := make([]T, len(rows))
	for i, row := range rows {
		b, err := json.Marshal(row)
		if err == nil {
			err = json.Unmarshal(b, &out[i])
		}
		if err != nil {
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "metrics", "line %v: %w", row["key"], err), "restore metrics.jsonl from a copy, or begin anew with another --run")
		}
	}
	return out, nil
}

// logPolicy writes the line that sums up a finished round of the policy. It is made of the lines of its steps, so that a run that was
// interrupted on the way has the line that an unbroken one has.
func (m *Metrics) logPolicy(round int) error {
	steps, err := m.policySteps()
	if err != nil {
		return err
	}
	sum := summarise(round, steps)
	if sum.Steps == 0 {
		return nil
	}
	return m.Log(fmt.Sprintf("policy/%d", round), sum)
}

// summarise joins the steps of a round. Means over texts are weighted by texts, and the rewards' deviation is that of all of them together.
func summarise(round int, steps []stepLine) evaluate.PolicyRound {
	out := evaluate.PolicyRound{Round: round}
	var texts, usable, tokens, square float64
	for _, s := range steps {
		if s.Round != round {
			continue
		}
		n := float64(s.Texts)
		ok := n * (1 - s.Rejected)
		out.Steps++
		out.Texts += s.Texts
		texts, usable, tokens = texts+n, usable+ok, tokens+float64(s.Tokens)
		out.Reward += ok * s.Reward
		square += math.Max(0, ok-1)*s.RewardSD*s.RewardSD + ok*s.Reward*s.Reward
		out.KL1, out.KL2, out.KL3 = out.KL1+n*s.KL.K1, out.KL2+n*s.KL.K2, out.KL3+n*s.KL.K3
		out.Valid += ok
		out.Distinct1, out.Distinct2, out.Unique = out.Distinct1+s.Distinct1, out.Distinct2+s.Distinct2, out.Unique+s.Unique
		out.Entropy += float64(s.Tokens) * s.Entropy
		out.Longest = max(out.Longest, s.Longest)
		out.Samples = nil
		for _, t := range s.Samples {
			out.Samples = append(out.Samples, evaluate.PolicyText{Text: t.Text, Valid: t.Valid, Reward: t.Reward, Tokens: t.Tokens})
		}
	}
	per := func(x *float64, n float64) { *x /= math.Max(1, n) }
	per(&out.Reward, usable)
	if usable > 1 {
		out.RewardSD = math.Sqrt(math.Max(0, square-usable*out.Reward*out.Reward) / (usable - 1))
	}
	for _, x := range []*float64{&out.KL1, &out.KL2, &out.KL3, &out.Valid} {
		per(x, texts)
	}
	for _, x := range []*float64{&out.Distinct1, &out.Distinct2, &out.Unique} {
		per(x, float64(out.Steps))
	}
	per(&out.Entropy, tokens)
	out.Length = tokens / math.Max(1, texts)
	return out
}

// steps copies the policy's course out of the metrics, and says which alarms rang.
func (l *Loop) steps() error {
	steps, err := l.Metrics.policySteps()
	if err != nil {
		return err
	}
	rang := map[string]int{}
	for _, s := range steps {
		for _, a := range s.Alarms {
			rang[a.Name]++
		}
		k1 := finite(s.KL.K1)
		l.report.Steps = append(l.report.Steps, evaluate.Step{Round: s.Round, Step: s.Step, Reward: s.Reward, KL: k1, Loss: s.Loss, Broken: s.Rejected})
		l.report.KL = append(l.report.KL, k1)
	}
	for _, name := range slices.Sorted(maps.Keys(rang)) {
		l.report.Notes = append(l.report.Notes, fmt.Sprintf("The alarm %q rang in %d of %d policy steps; metrics.jsonl says when.", name, rang[name], len(l.report.Steps)))
	}
	l.report.Policy, err = lines[evaluate.PolicyRound](l.Metrics, "policy/")
	return err
}
