package prompts

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The prompts of one record per domain, as a model sees them, with the explanation that we would give.
func TestGoldenPrompts(t *testing.T) {
	for noun, verb := range map[string]string{
		"product": "purchased this product", "movie": "watched this movie", "hotel": "stayed at this hotel", "restaurant": "visited this restaurant", "place": "visited this place",
	} {
		f := newFixture(t, noun, verb, fixtureItems(noun))
		r := f.renderer(t, DefaultSettings())
		var b strings.Builder
		for _, rec := range []int32{f.split.Test[0], f.split.Train[0]} {
			for _, pol := range Polarities {
				p, err := r.Render(rec, pol)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "== record %d, %v ==\n%s\n-> %s\n\n", rec, pol, p.Text, r.Heuristic(rec, pol))
			}
		}
		path := filepath.Join("testdata", noun+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s differs from %s:\n%s", noun, path, b.String())
		}
	}
}

func TestPairSharesAllButTheInstruction(t *testing.T) {
	f := movies(t)
	r := f.renderer(t, DefaultSettings())
	for _, rec := range f.split.Test {
		a, errA := r.Render(rec, Positive)
		b, errB := r.Render(rec, Negative)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.Shared != b.Shared || a.Text[:a.Shared] != b.Text[:b.Shared] {
			t.Errorf("record %d: the shared parts differ", rec)
		}
		if a.Text[a.Shared:] != r.Wording().Instruction(Positive) || b.Text[b.Shared:] != r.Wording().Instruction(Negative) {
			t.Errorf("record %d: the instruction is not what differs", rec)
		}
	}
}

// A user with forty records: the window holds at most ten lines, moves by five, and between moves each prompt's history begins with the one before.
func TestHistoryWindowMovesInBlocks(t *testing.T) {
	var items []dataset.Item
	var events []dataset.Event
	for i := range 40 {
		items = append(items, dataset.Item{ID: fmt.Sprintf("i%02d", i), Title: fmt.Sprintf("Film %02d", i)})
		events = append(events, dataset.Event{User: "u", Item: items[i].ID, Rating: float64(1 + i%5), Time: int64(i), HasTime: true, Row: i})
	}
	ds, err := dataset.New("long", dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	r := see(t, ds).renderer(t, DefaultSettings())
	var before []string
	moves := 0
	for rec := range int32(29) { // 32 train records, 3 of them validation
		lines := r.history(rec)
		if len(lines) > 10 || len(lines) < min(int(rec), 6) {
			t.Fatalf("record %d shows %d lines", rec, len(lines))
		}
		if len(lines) > 0 && !strings.HasPrefix(lines[len(lines)-1], fmt.Sprintf("Film %02d", rec-1)) {
			t.Fatalf("record %d: the window does not end at the most recent record: %v", rec, lines)
		}
		if len(before) > 0 && lines[0] != before[0] {
			moves++
			if lines[0] != before[5] {
				t.Errorf("record %d: the window did not move by five", rec)
			}
		}
		before = lines
	}
	if moves != 4 {
		t.Errorf("the window moved %d times in 28 records, want 4", moves)
	}
}

func TestBudgetDropsHistoryThenProfileThenTerms(t *testing.T) {
	f := movies(t)
	rec := f.split.Test[1]
	type seen struct{ history, profile, terms int }
	var last *seen
	for budget := 400; budget > 20; budget-- {
		s := DefaultSettings()
		s.TokenBudget, s.Counter = budget, byteCounter{}
		r := f.renderer(t, s)
		a, err := r.Render(rec, Positive)
		b, errB := r.Render(rec, Negative)
		if err != nil {
			if fault.ClassOf(err) != fault.Item || errB == nil {
				t.Fatalf("budget %d: %v, %v", budget, err, errB)
			}
			if last == nil || *last != (seen{}) {
				t.Fatalf("budget %d refused although something was left to drop: %+v", budget, last)
			}
			return
		}
		if n := (byteCounter{}).Count(b.Text); n > budget {
			t.Fatalf("budget %d: %d tokens", budget, n)
		}
		if !strings.HasSuffix(a.Text, r.Wording().Instruction(Positive)) || a.Shared != b.Shared {
			t.Fatalf("budget %d: instruction cut, or the pair shares no prefix", budget)
		}
		head, tail, _ := strings.Cut(a.Text[:a.Shared], "Current movie:")
		tail, terms, _ := strings.Cut(tail, "Terms, ")
		now := seen{strings.Count(head, "\n- "), len(tail[strings.Index(tail+"- profile:", "- profile:"):]), strings.Count(terms, "\n- ")}
		if last != nil && (now.history > last.history || now.profile > last.profile || now.terms > last.terms) {
			t.Fatalf("budget %d shows more than %d: %+v after %+v", budget, budget+1, now, *last)
		}
		if now.history > 0 && last != nil && (now.profile < last.profile || now.terms < last.terms) {
			t.Fatalf("budget %d: profile or terms went before history: %+v", budget, now)
		}
		if now.profile > 0 && last != nil && now.terms < last.terms {
			t.Fatalf("budget %d: terms went before the profile: %+v", budget, now)
		}
		last = &now
	}
	t.Fatal("no budget was too small")
}

func TestSwitchesHideTheirWords(t *testing.T) {
	f := movies(t)
	for _, c := range []struct{ taste, opinions bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		s := DefaultSettings()
		s.Taste, s.Opinions = c.taste, c.opinions
		r := f.renderer(t, s)
		text := ""
		for _, rec := range f.split.Test {
			p, err := r.Render(rec, Positive)
			if err != nil {
				t.Fatal(err)
			}
			text += p.Text + r.Heuristic(rec, Positive) + r.Heuristic(rec, Negative)
		}
		found := func(words []string) bool {
			for _, w := range words {
				if strings.Contains(text, w) {
					return true
				}
			}
			return false
		}
		taste, opinion := found([]string{"likes ", "loves ", "is not keen on ", "is new to "}), found([]string{"is praised", "is found fair", "is criticised", "is not yet rated"})
		if taste != c.taste || opinion != c.opinions {
			t.Errorf("%+v: taste shown %v, opinions shown %v", c, taste, opinion)
		}
	}
}

func TestDigestCoversWhatPromptsDependOn(t *testing.T) {
	f := movies(t)
	seen := map[string]string{}
	add := func(name string, r *Renderer) {
		if other, ok := seen[r.Digest()]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[r.Digest()] = name
	}
	add("default", f.renderer(t, DefaultSettings()))
	for name, change := range map[string]func(*Settings){
		"history": func(s *Settings) { s.History = 5 }, "terms": func(s *Settings) { s.Terms = 3 }, "taste": func(s *Settings) { s.Taste = false },
		"opinions": func(s *Settings) { s.Opinions = false }, "budget": func(s *Settings) { s.TokenBudget, s.Counter = 500, byteCounter{} },
	} {
		s := DefaultSettings()
		change(&s)
		add(name, f.renderer(t, s))
	}
	final := f
	final.view = f.split.FinalView(f.ds)
	add("view", final.renderer(t, DefaultSettings()))
	if again := movies(t).renderer(t, DefaultSettings()); seen[again.Digest()] != "default" {
		t.Error("the digest does not repeat")
	}
}

func allPrompts(t testing.TB, f fixture) map[int32]string {
	r := f.renderer(t, DefaultSettings())
	out := map[int32]string{}
	for rec := range int32(len(f.ds.Records)) {
		for _, pol := range Polarities {
			p, err := r.Render(rec, pol)
			if err != nil {
				t.Fatal(err)
			}
			out[rec] += p.Text + "\n" + r.Heuristic(rec, pol) + "\n"
		}
	}
	return out
}

// What happened in test (and in validation, while the view shows training alone) changes no prompt.
func TestHiddenOutcomesChangeNoPrompt(t *testing.T) {
	f := movies(t)
	want := allPrompts(t, f)
	hidden := append(append([]int32(nil), f.split.Val...), f.split.Test...)
	rapid.Check(t, func(rt *rapid.T) {
		ratings := make([]float64, len(hidden))
		for i := range ratings {
			ratings[i] = float64(rapid.IntRange(1, 5).Draw(rt, "rating"))
		}
		ds, err := f.ds.WithRatings(hidden, ratings)
		if err != nil {
			rt.Fatal(err)
		}
		for rec, text := range allPrompts(t, see(t, ds)) {
			if text != want[rec] {
				rt.Fatalf("record %d:\n%s\nwas\n%s", rec, text, want[rec])
			}
		}
	})
}

// A training record's own outcome never enters its own prompts or its own best reasons; it does enter those of others.
func TestOwnOutcomeIsNotInTheOwnPrompt(t *testing.T) {
	f := movies(t)
	want := allPrompts(t, f)
	moved := false
	rapid.Check(t, func(rt *rapid.T) {
		rec := rapid.SampledFrom(f.split.Train).Draw(rt, "record")
		ds, err := f.ds.WithRatings([]int32{rec}, []float64{float64(rapid.IntRange(1, 5).Draw(rt, "rating"))})
		if err != nil {
			rt.Fatal(err)
		}
		got := allPrompts(t, see(t, ds))
		if got[rec] != want[rec] {
			rt.Fatalf("record %d:\n%s\nwas\n%s", rec, got[rec], want[rec])
		}
		for other := range got {
			moved = moved || got[other] != want[other]
		}
	})
	if !moved {
		t.Error("no rating changed any prompt: the test sees nothing")
	}
}

func TestRecordOutOfRange(t *testing.T) {
	r := movies(t).renderer(t, DefaultSettings())
	for _, rec := range []int32{-1, 1000} {
		if _, err := r.Render(rec, Positive); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("record %d: %v", rec, err)
		}
	}
}

func TestWarmupIsOfTrainingRecords(t *testing.T) {
	f := movies(t)
	r := f.renderer(t, DefaultSettings())
	a, err := r.WarmupExamples(f.split.Train, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 2*len(f.split.Train) {
		t.Fatalf("%d examples of %d records", len(a), len(f.split.Train))
	}
	b, err := r.WarmupExamples(f.split.Train[3:4], 7)
	if err != nil {
		t.Fatal(err)
	}
	if b[1] != a[7] {
		t.Error("an example depends on which others are asked for")
	}
	for _, e := range a {
		if p, rej := Parse(e.Target, r.Wording(), e.Polarity); rej != nil || !p.Strict {
			t.Errorf("target %q: %v", e.Target, rej)
		}
	}
	if _, err := r.WarmupExamples(f.split.Test[:1], 7); err == nil {
		t.Error("a test record entered the corpus")
	}
}
