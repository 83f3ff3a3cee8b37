package orchestrator

import (
	"slices"
	"testing"

	"recpie/prompts"
	"recpie/recommender"
)

// marked gives every record explanations of its own: vectors 2r and 2r+1.
func marked(w *Workspace) *recommender.Explanations {
	e := blank(w.Data)
	e.Vectors = &recommender.Vectors{Dim: 1}
	for r := range e.Pos {
		e.Pos[r], e.Neg[r] = int32(2*r), int32(2*r+1)
		e.Vectors.Data = append(e.Vectors.Data, float32(r), -float32(r))
	}
	return e
}

func TestShuffledStaysWithinParts(t *testing.T) {
	w := workspace(t, restaurants(t))
	e := marked(w)
	e.Pos[w.Split.Test[0]] = -1 // a missing explanation travels too
	s := shuffled(e, w.Split, 3)
	moved := 0
	for _, part := range [][]int32{w.Split.Train, w.Split.Val, w.Split.Test} {
		var before, after []int32
		for _, r := range part {
			before, after = append(before, e.Neg[r]), append(after, s.Neg[r])
			if s.Pos[r] != s.Neg[r]-1 && s.Neg[r] != e.Neg[w.Split.Test[0]] {
				t.Fatalf("the two sentences of a pair were parted: %d, %d", s.Pos[r], s.Neg[r])
			}
			if s.Neg[r] != e.Neg[r] {
				moved++
			}
		}
		slices.Sort(before)
		slices.Sort(after)
		if !slices.Equal(before, after) {
			t.Fatal("explanations have left their part")
		}
	}
	if moved < len(w.Data.Records)/2 {
		t.Errorf("%d of %d records have another explanation", moved, len(w.Data.Records))
	}
	if !slices.Equal(shuffled(e, w.Split, 3).Pos, s.Pos) || slices.Equal(shuffled(e, w.Split, 4).Pos, s.Pos) {
		t.Error("the order does not follow the seed")
	}
	if e.Neg[5] != 11 {
		t.Error("the original was changed")
	}
}

func TestBlankedHasNone(t *testing.T) {
	w := workspace(t, restaurants(t))
	e := marked(w)
	b := blanked(w.Data, e)
	if b.Vectors != e.Vectors || len(b.Pos) != len(w.Data.Records) {
		t.Error("the vectors' dimension is lost")
	}
	for r := range b.Pos {
		if b.Pos[r] != -1 || b.Neg[r] != -1 {
			t.Fatalf("record %d has an explanation", r)
		}
	}
}

// The control must hold what the sentence says, under the same name for both sides, and nothing of the wording.
func TestNumbersAreTheContent(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			w := workspace(t, make(t))
			h := heuristic(w, w.Pairs())
			gone := 3
			h.Text[prompts.Negative][gone] = ""
			n := numbers(w, h)
			names := map[string]bool{}
			for _, side := range []*Side{&w.Train, &w.Final} {
				for _, term := range side.Terms.Names() {
					names[term] = true
				}
			}
			if n.Vectors.Dim != 3*len(names) {
				t.Errorf("%d numbers for %d terms", n.Vectors.Dim, len(names))
			}
			if len(n.Pos) != len(w.Data.Records) || n.Neg[h.Recs[gone]] != -1 {
				t.Error("a missing explanation got numbers")
			}
			some := false
			for i, r := range h.Recs {
				if n.Pos[r] < 0 || int(n.Pos[r]) >= n.Vectors.Len() {
					t.Fatalf("record %d points to %d of %d", r, n.Pos[r], n.Vectors.Len())
				}
				vec := n.Vectors.Data[int(n.Pos[r])*n.Vectors.Dim : (int(n.Pos[r])+1)*n.Vectors.Dim]
				mentioned := 0
				for k := 0; k < len(vec); k += 3 {
					if vec[k] != 0 {
						mentioned++
					}
				}
				if want := len(w.SideOf(r).Renderer.Mentions(h.Text[prompts.Positive][i])); mentioned != want {
					t.Fatalf("record %d: %d terms in numbers, %d in %q", r, mentioned, want, h.Text[prompts.Positive][i])
				}
				some = some || mentioned > 0
			}
			if !some {
				t.Error("no sentence mentions a term")
			}
		})
	}
}

// An interrupted run does not fit what is fitted: the stored result is taken when it answers the same question.
func TestJudgeTakesUpItsResults(t *testing.T) {
	w := workspace(t, restaurants(t))
	s := recommender.DefaultSettings(len(w.Split.Train))
	s.MaxEpochs, s.Patience, s.Dim = 2, 1, 8
	fits := 0
	lab := &Lab{Work: w, Settings: s, Seeds: []int64{1, 2}, Dir: t.TempDir(), Progress: func(string, int) { fits++ }}
	e := marked(w)
	first, err := lab.Judge(t.Context(), "x", e)
	if err != nil {
		t.Fatal(err)
	}
	second, err := lab.Judge(t.Context(), "x", e)
	if err != nil || fits != 2 {
		t.Fatalf("%d fits for two seeds: %v", fits, err)
	}
	for seed := range first.Test {
		if !slices.Equal(first.Test[seed], second.Test[seed]) {
			t.Error("stored predictions are others")
		}
	}
	if len(first.Test) != 2 || len(first.Test[0]) != len(w.Split.Test) || len(first.Alpha) != len(w.Split.Test) || *first.System != *second.System {
		t.Error("shapes of the result")
	}
	m, err := recommender.LoadModel(second.Model, w.Final.Net)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Predict(t.Context(), w.Split.Test, e)
	m.Close()
	if err != nil || !slices.Equal(p.Y, first.Test[0]) {
		t.Errorf("the stored network predicts something else: %v", err)
	}
	other := *e
	other.Pos = slices.Clone(e.Pos)
	other.Pos[0] = -1
	if _, err := lab.Judge(t.Context(), "x", &other); err != nil || fits != 4 {
		t.Errorf("other explanations took the old result: %d fits, %v", fits, err)
	}
}
