package stats

import (
	"fmt"
	"io"
	"strings"

	"recpie/internal/screen"
)

// WriteText prints the description for a person.
func (s *Stats) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-18s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s (%s)\n", screen.Line(s.Name), s.Domain)
	line("records", "%d", s.Records)
	line("users", "%d", s.Users)
	line("items", "%d rated, %d known", s.RatedItems, s.Items)
	switch {
	case s.From == "":
		line("period", "unknown: no record has a time")
	case s.Untimed > 0:
		line("period", "%s to %s, %d records without a time", s.From, s.To, s.Untimed)
	default:
		line("period", "%s to %s", s.From, s.To)
	}
	line("rating scale", "%g to %g", s.Min, s.Max)
	line("density", "%.4g %%", 100*s.Density)
	fmt.Fprintf(&b, "\n  %-18s %8s %8s %8s %8s %8s\n", "", "min", "median", "mean", "p90", "max")
	row := func(name string, q Spread) {
		fmt.Fprintf(&b, "  %-18s %8d %8g %8.2f %8d %8d\n", name, q.Min, q.Median, q.Mean, q.P90, q.Max)
	}
	row("records per user", s.PerUser)
	row("records per item", s.PerItem)
	if s.Split == nil {
		fmt.Fprint(&b, "\n  no user has enough records to be split\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	row("history at test", s.Split.History)
	if s.Seen.TextShare > 0 {
		row("words per review", s.Seen.Words)
	}
	if s.Seen.AspectShare > 0 {
		row("terms per record", s.Seen.Aspects)
	}
	p := s.Split
	fmt.Fprint(&b, "\n")
	line("split", "%d users; training %d, validation %d, test %d; digest %.12s", p.Users, p.Train, p.Val, p.Test, p.Digest)
	line("too short", "%d users with %d records take no part", p.ShortUsers, p.ShortRecords)
	line("cold at test", "%s of %d users, %s of %d items (%s of the records)", percent(p.ColdUsers), p.TestUsers, percent(p.ColdItems), p.TestItems, percent(p.ColdRecords))
	line("ties at the cut", "%d users (%s)", p.TieCuts, percent(p.TieShare))
	s.Seen.write(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// write prints what the visible outcomes say.
func (s *Seen) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n  of the %d training and validation records:\n", s.Records)
	fmt.Fprintf(b, "  %-18s %.4g\n", "mean rating", s.MeanRating)
	most := 1
	for _, bin := range s.Ratings {
		most = max(most, bin.Records)
	}
	for _, bin := range s.Ratings {
		fmt.Fprintf(b, "  %-18s %8d %6s  %s\n", bin.name(), bin.Records, percent(share(bin.Records, s.Records)), strings.Repeat("#", (40*bin.Records+most-1)/most))
	}
	fmt.Fprintf(b, "  %-18s %s\n", "with a review", percent(s.TextShare))
	source := ""
	if s.Mined {
		source = ", found in the reviews"
	}
	fmt.Fprintf(b, "  %-18s %s, %d different ones%s\n", "with aspect terms", percent(s.AspectShare), s.Distinct, source)
	for _, t := range s.Top {
		fmt.Fprintf(b, "    %8d  %s\n", t.Records, screen.Line(t.Term))
	}
}

func (b Bin) name() string {
	if b.From == b.To {
		return fmt.Sprintf("  rated %g", b.From)
	}
	return fmt.Sprintf("  rated %.4g..%.4g", b.From, b.To)
}
