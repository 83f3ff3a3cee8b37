package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/batchfile"
	"recpie/internal/dataset"
	"recpie/orchestrator"
	"recpie/prompts"
)

// What lines ask for is the same row by row, all at once and from beginning to end; the lines can be written and read again.
func TestAskedAnswersAsItsLines(t *testing.T) {
	ds, err := dataset.New("d", dataset.Spec{Min: 1, Max: 5}, nil, []dataset.Event{{User: "u", Item: "i", Rating: 3}, {User: "u", Item: `j"<`, Rating: 4}, {User: "v", Item: "i", Rating: 5}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) batchfile.Line {
			return batchfile.Line{ID: rapid.SampledFrom([]string{"", "", "x", "é"}).Draw(rt, "id"), Polarity: rapid.SampledFrom([]int8{batchfile.Both, batchfile.Both, batchfile.Positive, batchfile.Negative}).Draw(rt, "polarity")}
		}), 0, 50).Draw(rt, "lines")
		var a asked
		defer func() { _ = a.ids.Close() }()
		type row struct {
			orchestrator.Ask
			line int
		}
		var want []row
		var recs []int32
		for i, l := range lines {
			if err := a.add(l); err != nil {
				rt.Fatal(err)
			}
			recs = append(recs, int32(i%3))
			for _, pol := range prompts.Polarities {
				if l.Polarity == batchfile.Both || l.Polarity == int8(pol) {
					want = append(want, row{orchestrator.Ask{Record: recs[i], Polarity: pol}, i})
				}
			}
		}
		a.recs = recs
		if a.rows() != len(want) || a.pairs() == slices.ContainsFunc(lines, func(l batchfile.Line) bool { return l.Polarity != batchfile.Both }) {
			rt.Fatalf("%d rows, want %d; pairs: %v", a.rows(), len(want), a.pairs())
		}
		n := 0
		for ask := range a.all() {
			if ask != want[n].Ask {
				rt.Fatalf("row %d of all is %v, want %v", n, ask, want[n])
			}
			n++
		}
		for i := range want {
			if ask, line := a.at(i); (row{ask, line}) != want[i] {
				rt.Fatalf("row %d is %v of line %d, want %v", i, ask, line, want[i])
			}
		}
		if n != len(want) {
			rt.Fatalf("%d rows, want %d", n, len(want))
		}
		var b strings.Builder
		if err := a.write(&b, ds); err != nil {
			rt.Fatal(err)
		}
		i := 0
		for text := range strings.Lines(b.String()) {
			want := fmt.Sprintf(`"item_id":%q`, []string{"i", `j"\u003c`, "i"}[recs[i]])
			if id, err := a.id(i); err != nil || id != lines[i].ID || (id != "") != strings.Contains(text, "custom_id") || !strings.Contains(strings.ReplaceAll(text, `\\u`, `\u`), strings.ReplaceAll(want, `\\u`, `\u`)) {
				rt.Fatalf("line %d: %s, id %q, %v; want %s", i, text, id, err, want)
			}
			i++
		}
	})
}
