package orchestrator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/audit"
	"recpie/internal/dataset/planted"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/prompts"
	"recpie/recommender"
)

// told is a finished run on the planted domain whose sentences are an oracle's: they name the one attribute that the user cares about, and say
// truly whether the restaurant has it. Its networks are one trained on them, and the control trained on sentences that were shuffled between pairs.
func told(t *testing.T) *Trained {
	t.Helper()
	d, err := planted.New(planted.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	w, err := PrepareData(t.Context(), d.Dataset, nil, DataSettings{MinRecords: 5, Seed: 1, Prompts: prompts.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	recs := w.Pairs()
	e := &Explained{Recs: recs, Text: [2][]string{make([]string, len(recs)), make([]string, len(recs))}}
	for i, r := range recs {
		rec := d.Dataset.Records[r]
		g := d.Cares[rec.User]
		word, found := "dislikes ", "is criticised for "
		if d.Has(rec.Item, g) {
			word, found = "loves ", "is widely loved for "
		}
		says := " because the user " + word + d.Attributes[g] + " and the restaurant " + found + d.Attributes[g] + "."
		e.Text[prompts.Positive][i], e.Text[prompts.Negative][i] = "The user visited this restaurant"+says, "The user did not visit this restaurant"+says
	}
	run := t.TempDir()
	enc := openMiniLM(t)
	expl, err := vectorise(t.Context(), enc, d.Dataset, e)
	if err != nil {
		t.Fatal(err)
	}
	lab := &Lab{Work: w, Settings: recommender.DefaultSettings(len(w.Split.Train)), Seeds: []int64{1}, Dir: filepath.Join(run, "networks")}
	if err := os.MkdirAll(lab.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]*recommender.Explanations{"untrained": expl, "shuffled_refit": shuffled(expl, w.Split, 1)} {
		if _, err := lab.Judge(t.Context(), name, x); err != nil {
			t.Fatal(err)
		}
	}
	run2 := &Trained{Work: w, Dir: run, Report: &evaluate.Report{}, Embed: enc, texts: e, expl: expl}
	open(t, run2, "untrained")
	return run2
}

// open puts a network of the run under audit.
func open(t *testing.T, r *Trained, name string) {
	t.Helper()
	folder, err := r.folder(name)
	if err != nil {
		t.Fatal(err)
	}
	if r.subject, err = subjectOf(folder, r.texts); err != nil {
		t.Fatal(err)
	}
	if r.model, err = r.network(name); err != nil {
		t.Fatal(err)
	}
	r.name = name
	t.Cleanup(r.model.Close)
}

func auditOf(t *testing.T, r *Trained, s AuditSettings) (*audit.Summary, string) {
	t.Helper()
	sum, j, err := r.Audit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	b, err := os.ReadFile(filepath.Join(r.Dir, auditDir, auditRows))
	if err != nil {
		t.Fatal(err)
	}
	return sum, string(b)
}

// The audit finds the reasons that are known to be right faithful, and sentences inert to a network that learned that they mean nothing.
func TestAuditOfPlantedReasons(t *testing.T) {
	r := told(t)
	all := AuditSettings{Seed: 1, Curves: 100}
	sum, rows := auditOf(t, r, all)
	t.Logf("\n%s", sum.Text())
	if n := len(r.Work.Split.Test); sum.Records != n || sum.Users != 200 {
		t.Errorf("%d records of %d users", sum.Records, sum.Users)
	}
	if v := sum.Verdicts["records"]; v.Faithful < .9 || v.Contrary > .02 {
		t.Errorf("verdicts on the right reasons: %+v", v)
	}
	for _, e := range sum.Effects {
		if e.Name == audit.Negated && e.Size.Mean < .1 {
			t.Errorf("the opposite moves predictions by %g", e.Size.Mean)
		}
	}
	if sum.Random.Error.RMSE > -.05 || sum.Random.Error.P > 1e-6 {
		t.Errorf("against random sentences: %+v", sum.Random)
	}
	if sum.For.Effect.Mean < .01 || sum.Against.Effect.Mean > -.01 || sum.For.Agree < .9 || sum.Against.Agree < .9 {
		t.Errorf("directions: %+v, %+v", sum.For, sum.Against)
	}
	if sum.Threshold.Noise == nil || sum.Threshold.Noise.Sentence >= sum.Threshold.Own.Sentence {
		t.Errorf("threshold: %+v", sum.Threshold)
	}

	t.Run("goes on", func(t *testing.T) {
		path := filepath.Join(r.Dir, auditDir, auditRows)
		if err := os.WriteFile(path, []byte(rows[:len(rows)/2]), 0o644); err != nil {
			t.Fatal(err)
		}
		again, more := auditOf(t, r, all)
		if again.Text() != sum.Text() || strings.Count(more, "\n") != strings.Count(rows, "\n") {
			t.Errorf("an interrupted audit ends as another:\n%s", again.Text())
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		cancel(stop)
		other := all
		other.Seed = 2
		if _, _, err := r.Audit(ctx, other); err == nil {
			t.Error("an audit does not stop")
		}
	})
	t.Run("sample", func(t *testing.T) {
		some, _ := auditOf(t, r, AuditSettings{Seed: 3, Sample: 50})
		if some.Records != 50 || some.Of != len(r.Work.Split.Test) || len(some.Curves) != 0 {
			t.Errorf("%+v", some)
		}
	})
	t.Run("hidden", func(t *testing.T) {
		auditOf(t, r, AuditSettings{Seed: 1, Threshold: .9}) // nothing moves that far
		if err := r.HideUnfaithful(); err != nil {
			t.Fatal(err)
		}
		defer func() { r.hide = nil }()
		out, err := r.Predict(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out {
			if p.Positive != "" || p.Negative != "" || p.Hidden == nil || !strings.HasPrefix(p.Hidden.Positive, "inert") {
				t.Fatalf("it is shown: %+v", p)
			}
		}
		was := r.texts.Text[0][0]
		defer func() { r.texts.Text[0][0] = was }()
		r.texts.Text[0][0] = "The user visited this restaurant because it is new."
		folder, err := r.folder("untrained")
		if err != nil {
			t.Fatal(err)
		}
		defer func(s audit.Subject) { r.subject = s }(r.subject)
		if r.subject, err = subjectOf(folder, r.texts); err != nil {
			t.Fatal(err)
		}
		if err := r.HideUnfaithful(); err == nil || !strings.Contains(err.Error(), "stale") || !strings.Contains(fault.HintOf(err), "recpie audit") {
			t.Errorf("other explanations: %v", err)
		}
	})
	t.Run("shuffled", func(t *testing.T) {
		open(t, r, "shuffled_refit")
		sum, _ := auditOf(t, r, all)
		t.Logf("\n%s", sum.Text())
		if v := sum.Verdicts["records"]; v.Inert < .85 {
			t.Errorf("verdicts by a network to which sentences mean nothing: %+v", v)
		}
	})
	if err := os.Remove(filepath.Join(r.Dir, auditDir, auditVerdict)); err != nil {
		t.Fatal(err)
	}
	if err := r.HideUnfaithful(); err == nil || !strings.Contains(fault.HintOf(err), "recpie audit") {
		t.Errorf("without an audit: %v", err)
	}
}

func TestAuditNeedsExplanations(t *testing.T) {
	r := &Trained{Dir: t.TempDir()}
	if _, _, err := r.Audit(t.Context(), AuditSettings{}); err == nil || !strings.Contains(fault.HintOf(err), "--explanations on") {
		t.Errorf("%v", err)
	}
	if err := r.HideUnfaithful(); err != nil {
		t.Errorf("nothing can be hidden: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, auditDir)); err == nil {
		t.Error("it leaves an empty folder")
	}
}

// The plan gives every record somebody else's sentences, and another user's of the same item where there is one.
func TestAuditPlan(t *testing.T) {
	w := workspace(t, restaurants(t))
	r := &Trained{Work: w, texts: heuristic(w, w.Pairs())}
	p := r.newAuditPlan(AuditSettings{Seed: 1, Curves: 5})
	if !slices.Equal(p.recs, w.Split.Test) || len(p.curves) != 5 {
		t.Errorf("%d records, %d curves", len(p.recs), len(p.curves))
	}
	with := 0
	at := map[audit.Pair]map[int32]bool{} // sentences → items that they were written for
	for rec, pair := range p.texts {
		if at[pair] == nil {
			at[pair] = map[int32]bool{}
		}
		at[pair][w.Data.Records[rec].Item] = true
	}
	for i, c := range p.cases(0, len(p.recs)) {
		if c.Texts != p.texts[p.recs[i]] || w.Data.Records[p.random[c.Record]].User == c.User {
			t.Fatalf("%+v", c)
		}
		if c.Other != nil {
			with++
			if !at[*c.Other][w.Data.Records[c.Record].Item] {
				t.Errorf("sentences of another item: %q", *c.Other)
			}
		}
	}
	if with == 0 {
		t.Error("no item has two users")
	}
	for _, c := range p.calibration() {
		if !slices.Contains(w.Split.Val, c.Record) || w.Data.Records[p.random[c.Record]].User == c.User || !slices.Contains(w.Split.Val, p.random[c.Record]) {
			t.Fatalf("calibrated on %+v", c)
		}
	}
	same, other := r.newAuditPlan(AuditSettings{Seed: 1, Curves: 5}), r.newAuditPlan(AuditSettings{Seed: 2, Sample: 7})
	if same.random[p.recs[0]] != p.random[p.recs[0]] || len(other.recs) != 7 || !slices.IsSorted(other.recs) {
		t.Error("the seed does not decide the plan")
	}
	var s audit.Subject
	var th audit.Threshold
	if p.digest(s, th) != same.digest(s, th) || p.digest(s, th) == other.digest(s, th) || p.digest(s, th) == p.digest(audit.Subject{Network: "x"}, th) {
		t.Error("the digest does not name the audit")
	}
}
