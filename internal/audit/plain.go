package audit

import (
	"fmt"
	"math"
	"strings"
)

// sentences says in plain language what the numbers say.
func (s *Summary) sentences() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.Records == 0 {
		return []string{"There was no prediction with an explanation to audit."}
	}
	if b, ok := s.effect(Blanked); ok {
		say("Of %s predictions, %s change by less than %s when both explanations are taken away; on average they change by %s (SE %s) of the rating scale.",
			count(b.Size.N), percent(b.Still), short(s.Threshold.Plain), short(b.Size.Mean), short(b.Size.SE))
	}
	v := s.Verdicts["records"]
	how := "a plain limit, for the run has no network trained on shuffled explanations"
	if n := s.Threshold.Noise; n != nil && s.Threshold.Used == n.Sentence {
		how = "95 % of what sentences do that mean nothing"
	} else if n != nil && s.Threshold.Used == s.Threshold.Plain {
		how = "a plain limit; sentences that mean nothing stay below it"
	} else if s.Threshold.Used != s.Threshold.Plain {
		how = "set by hand"
	}
	say("By the threshold %s (%s), the explanations of %s of the records do nothing (by the plain limit %s: %s), those of %s say the contrary of what they do, and those of %s are faithful.",
		short(s.Threshold.Used), how, percent(v.Inert), short(s.Threshold.Plain), percent(s.Nothing), percent(v.Contrary), percent(v.Faithful))
	if x, ok := s.effect(Negated); ok {
		say("Saying the opposite of both explanations moves a prediction by %s on average; exchanging the positive and the negative one moves it by %s.", short(x.Size.Mean), short(s.size(Exchanged)))
	}
	if x, ok := s.effect(SwappedUser); ok {
		say("Another user's explanations of the same item move it by %s, those of a random pair by %s.", short(x.Size.Mean), short(s.size(SwappedRandom)))
	}
	if r := s.Random; r.Own.N > 0 {
		say("%s", r.sentence())
	}
	for _, d := range []struct {
		what string
		Direction
	}{{"for", s.For}, {"against", s.Against}} {
		if d.Effect.N == 0 {
			continue
		}
		line := fmt.Sprintf("A reason %s the item %s the prediction by %s on average%s", d.what, direction(d.Effect.Mean), short(math.Abs(d.Effect.Mean)), doubt(d.Effect))
		if d.Moving > 0 {
			line += fmt.Sprintf("; of the %s with an effect above the threshold, %s work in the direction of what they say", count(d.Moving), percent(d.Agree))
		}
		say("%s.", line)
	}
	if a, b := s.For.Effect, s.Against.Effect; a.P < .05 && b.P < .05 && a.Mean*b.Mean > 0 {
		say("Reasons for and against work in the same direction: the network reacts to what is spoken of more than to what is said of it.")
	}
	if len(s.Aspects) > 0 {
		var names []string
		for _, a := range s.Aspects[:min(3, len(s.Aspects))] {
			names = append(names, fmt.Sprintf("%s (%s)", a.Name, short(a.Size.Mean)))
		}
		say("The reasons that move predictions most are about %s.", strings.Join(names, ", "))
	}
	p, n := s.Attention[sides[0]], s.Attention[sides[1]]
	if p.N+n.N > 0 {
		say("Attention %s: its rank correlation with the effect of taking a sentence away is %+.2f (SE %.2f) for positive and %+.2f (SE %.2f) for negative explanations.", telling(p, n), p.Spearman, p.SE, n.Spearman, n.SE)
	}
	return out
}

func (v Versus) sentence() string {
	moves := "as far as"
	if v.Difference.P < .05 {
		moves = "further than"
		if v.Difference.Mean < 0 {
			moves = "less than"
		}
	}
	helps := "and predict no better"
	if v.Error.P < .05 {
		helps = "and predict better"
		if v.Error.RMSE > 0 {
			helps = "and predict worse"
		}
	}
	return fmt.Sprintf("A record's own explanations move its prediction %s random ones (%s against %s, p %s) %s (RMSE %.4f against %.4f, p %s).", moves,
		short(v.Own.Mean), short(v.Random.Mean), pvalue(v.Difference.P), helps, v.OwnRMSE, v.RandomRMSE, pvalue(v.Error.P))
}

// signed writes a mean with its sign, "" where there is nothing to take it of.
func (m Mean) signed() string {
	if m.N == 0 {
		return ""
	}
	return fmt.Sprintf("%+.4f", m.Mean)
}

// telling judges attention by its weaker side.
func telling(p, n Agrees) string {
	sure := func(a Agrees) bool { return a.Spearman > 2*a.SE && a.SE > 0 }
	switch least := math.Min(p.Spearman, n.Spearman); {
	case sure(p) && sure(n) && least >= .5:
		return "tells well what matters"
	case sure(p) && sure(n):
		return "tells something of what matters"
	case sure(p) || sure(n):
		return "tells something of what matters for one of the two sentences alone"
	}
	return "does not tell what matters"
}

func (s *Summary) size(name string) float64 {
	e, _ := s.effect(name)
	return e.Size.Mean
}

func direction(x float64) string {
	if x < 0 {
		return "lowers"
	}
	return "raises"
}

// doubt marks a mean that may well be 0.
func doubt(m Mean) string {
	if m.P >= .05 {
		return " (not distinct from 0)"
	}
	return ""
}

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

// short writes a small number as .0012.
func short(x float64) string {
	digits := 4
	if x != 0 && math.Abs(x) < .0005 {
		digits = 6
	}
	return strings.Replace(fmt.Sprintf("%.*f", digits, x), "0.", ".", 1)
}

func pvalue(p float64) string {
	if p < .001 {
		return "< .001"
	}
	return strings.TrimPrefix(fmt.Sprintf("%.3f", p), "0")
}

// count writes a number with a comma every three digits.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Text is the summary for a terminal.
func (s *Summary) Text() string {
	var b strings.Builder
	for _, line := range s.Plain {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "\n%-17s %7s %9s %9s %9s %8s %8s\n", "", "n", "change", "SE", "|change|", "< "+short(s.Threshold.Plain), "≤ "+short(s.Threshold.Used))
	for _, e := range s.Effects {
		fmt.Fprintf(&b, "%-17s %7d %+9.4f %9.4f %9.4f %7.1f%% %7.1f%%\n", e.Name, e.Change.N, e.Change.Mean, e.Change.SE, e.Size.Mean, 100*e.Still, 100*e.Within)
	}
	fmt.Fprintf(&b, "\n%-17s %7s %9s %9s %9s\n", "verdicts", "n", Faithful, Inert, Contrary)
	for _, name := range []string{"records", sides[0], sides[1]} {
		v := s.Verdicts[name]
		fmt.Fprintf(&b, "%-17s %7d %8.1f%% %8.1f%% %8.1f%%\n", name, v.N, 100*v.Faithful, 100*v.Inert, 100*v.Contrary)
	}
	if len(s.Aspects) > 0 {
		fmt.Fprintf(&b, "\n%-24s %7s %9s %9s %9s %9s\n", "aspect", "n", "|change|", "SE", "for", "against")
		for _, a := range s.Aspects[:min(10, len(s.Aspects))] {
			fmt.Fprintf(&b, "%-24.24s %7d %9.4f %9.4f %9s %9s\n", a.Name, a.Size.N, a.Size.Mean, a.Size.SE, a.For.signed(), a.Against.signed())
		}
	}
	if len(s.Curves) > 0 {
		fmt.Fprintf(&b, "\n%-17s %7s %9s %9s %9s\n", "reasons", "n", "removed", "last", "kept")
		for _, p := range s.Curves {
			fmt.Fprintf(&b, "%-17d %7d %9.4f %9.4f %9.4f\n", p.K, p.Removed.N, p.Removed.Mean, p.Plain.Mean, p.Kept.Mean)
		}
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", n)
	}
	return b.String()
}
