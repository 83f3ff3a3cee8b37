package audit

import (
	"context"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. Got\n%s", path, got)
	}
}

var pictures = regexp.MustCompile(`(?s)<svg.*?</svg>`)

func TestGoldenSummary(t *testing.T) {
	th := Threshold{Noise: &Noise{Network: "shuffled_refit", Records: 50, Sentence: .02, Both: .03}, Own: &Noise{Network: "linear", Records: 50, Sentence: .3, Both: .4}}
	th.Choose(0)
	s, _ := audited(t, &linear{weight: weights()}, world(60, 1), th)
	s.Notes = append(s.Notes, "a note")
	golden(t, "summary.txt", s.Text())
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.json", regexp.MustCompile(`(\d\.\d{6})\d+`).ReplaceAllString(string(b), "$1")+"\n")
	page, err := s.HTML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "audit.html", pictures.ReplaceAllString(string(page), "<svg>"))
	if n := len(pictures.FindAll(page, -1)); n != len(Interventions)+3 {
		t.Errorf("%d pictures, want %d", n, len(Interventions)+3)
	}
}

// topical hears what is spoken of and not what is said of it.
type topical struct{}

func (topical) Predict(_ context.Context, queries []Query) ([]Prediction, error) {
	out := make([]Prediction, len(queries))
	for i, q := range queries {
		out[i].Y = .5 + .01*float64(strings.Count(q.Positive+" "+q.Negative, "comedy"))
	}
	return out, nil
}

// On a network whose truth is known, the summary says the truth.
func TestSummaryOfAKnownNetwork(t *testing.T) {
	s, _ := audited(t, &linear{weight: weights()}, world(100, 7), plainThreshold())
	for name, want := range map[string]float64{"comedy": .1, "drama": .05, "war": .02, "noir": .01, "quiet": 0} {
		for _, a := range s.Aspects {
			if a.Name != name {
				continue
			}
			// Words of the negative sentence count half, and in both sentences they add up or cancel in part.
			if want > 0 && (a.For.Mean < want/2-1e-9 || a.For.Mean > 1.5*want+1e-9 || a.Against.Mean > -want/2+1e-9 || a.Against.Mean < -1.5*want-1e-9) || want == 0 && a.Size.Mean != 0 {
				t.Errorf("%+v, want between half of %g and one and a half", a, want)
			}
		}
	}
	if len(s.Aspects) != len(genres) || s.Aspects[0].Name != "comedy" || s.Aspects[4].Name != "quiet" {
		t.Errorf("aspects %+v", s.Aspects)
	}
	if s.For.Agree != 1 || s.Against.Agree != 1 || s.For.Effect.Mean <= 0 || s.Against.Effect.Mean >= 0 || s.For.Effect.P > 1e-6 {
		t.Errorf("directions %+v, %+v", s.For, s.Against)
	}
	if v := s.Verdicts["records"]; v.Contrary != 0 || v.Inert > .1 || v.Inert != s.Nothing || math.Abs(v.Faithful+v.Inert-1) > 1e-9 {
		t.Errorf("verdicts %+v", s.Verdicts)
	}
	if p := s.Curves[0]; p.Removed.Mean <= p.Plain.Mean || p.Kept.Mean <= s.Curves[1].Kept.Mean {
		t.Errorf("curve %+v", s.Curves)
	}
	if e, _ := s.effect(Negated); math.Abs(e.Size.Mean-2*s.size(Blanked)) > 1e-9 {
		t.Errorf("the opposite moves by %g, blanking by %g", e.Size.Mean, s.size(Blanked))
	}

	still, _ := audited(t, &linear{}, world(100, 7), plainThreshold())
	if v := still.Verdicts["records"]; v.Inert != 1 || still.Nothing != 1 || !strings.Contains(still.Plain[0], "100 % change by less than .0010") {
		t.Errorf("a network that reads nothing: %+v, %s", v, still.Plain[0])
	}
	same := "work in the same direction"
	topic, _ := audited(t, topical{}, world(100, 7), plainThreshold())
	if !strings.Contains(strings.Join(topic.Plain, "\n"), same) || strings.Contains(strings.Join(s.Plain, "\n"), same) {
		t.Errorf("a network that hears topics alone: %q", topic.Plain)
	}
	turned := map[string]float64{}
	for name, w := range weights() {
		turned[name] = -w
	}
	contrary, _ := audited(t, &linear{weight: turned}, world(100, 7), plainThreshold())
	if v := contrary.Verdicts["records"]; v.Faithful > .4 || v.Contrary < .6 || contrary.For.Agree != 0 {
		t.Errorf("a network that reads all the wrong way: %+v, %+v", v, contrary.For)
	}
}

func TestEmptyAudit(t *testing.T) {
	s, _ := audited(t, &linear{}, nil, plainThreshold())
	if len(s.Plain) != 1 || !strings.Contains(s.Plain[0], "no prediction") {
		t.Errorf("%q", s.Plain)
	}
	if _, err := s.HTML(); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
}

func TestPageEscapesWhatOthersWrote(t *testing.T) {
	cases := world(20, 1)
	for i := range cases {
		cases[i].Texts[0] = `+<script>alert(1)</script> -"><img/src=x>`
	}
	s, _ := audited(t, &linear{weight: map[string]float64{"<script>alert(1)</script>": .1, `"><img/src=x>`: .2}}, cases, plainThreshold())
	for i := range s.Examples {
		s.Examples[i].User, s.Examples[i].Negative = "<img src=z>", `<script src="x">alert(1)</script>`
	}
	s.Data, s.Network = "<script>", "<img src=y>"
	b, err := s.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "onerror="} {
		if strings.Contains(string(b), bad) {
			t.Errorf("the page contains %s", bad)
		}
	}
	if strings.Count(string(b), "alert(1)") < 3 { // in a sentence, the table and a picture
		t.Error("the aspect is not shown")
	}
}

func TestAgreement(t *testing.T) {
	var dots []dot
	for i := range 200 {
		x := float64(i)
		dots = append(dots, dot{x, x * x, int32(i % 50)})
	}
	a := agreement(dots)
	if math.Abs(a.Spearman-1) > 1e-12 || a.Pearson > .99 || a.Pearson < .9 || a.SE > 1e-9 || a.N != 200 {
		t.Errorf("a monotone relation: %+v", a)
	}
	for i := range dots {
		dots[i].moved = -dots[i].moved
	}
	if a := agreement(dots); math.Abs(a.Spearman+1) > 1e-12 {
		t.Errorf("a falling relation: %+v", a)
	}
	for i := range dots {
		dots[i].moved = float64((i * 7919) % 211)
	}
	if a := agreement(dots); math.Abs(a.Spearman) > 3*a.SE || a.SE < .03 || a.SE > .15 {
		t.Errorf("no relation: %+v", a)
	}
	for i := range dots {
		dots[i].moved = 1
	}
	if a := agreement(dots); a.Spearman != 0 || a.Pearson != 0 {
		t.Errorf("no variation: %+v", a)
	}
	if got := ranks([]float64{3, 1, 3, 2}); got[0] != 3.5 || got[1] != 1 || got[2] != 3.5 || got[3] != 2 {
		t.Errorf("ranks %v", got)
	}
}
