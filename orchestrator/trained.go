package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"recpie/internal/audit"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/internal/store"
	"recpie/prompts"
	"recpie/recommender"
)

// Trained is a finished run, opened to predict with.
type Trained struct {
	Work   *Workspace
	Dir    string
	Report *evaluate.Report
	Embed  Embedder // nil for a network without explanations

	name    string // of the network
	model   *recommender.Model
	texts   *Explained
	expl    *recommender.Explanations
	subject audit.Subject
	hide    *audit.Verdicts // nil: every sentence is shown
}

// Prediction is one record as the trained system sees it. Ratings are on the data's own scale.
type Prediction struct {
	User       string             `json:"user_id"`
	Item       string             `json:"item_id"`
	Title      string             `json:"title,omitempty"`
	Rating     float64            `json:"rating"`
	SD         float64            `json:"rating_sd,omitempty"` // standard deviation of the error to expect, as calibrated on validation
	Positive   string             `json:"positive,omitempty"`
	Negative   string             `json:"negative,omitempty"`
	Hidden     *Hidden            `json:"hidden,omitempty"`
	Attention  map[string]float64 `json:"attention,omitempty"`
	TrueRating float64            `json:"true_rating"`
}

// Hidden says why sentences of a prediction are not shown.
type Hidden struct {
	Positive string `json:"positive,omitempty"`
	Negative string `json:"negative,omitempty"`
}

// HideUnfaithful keeps sentences that the run's audit found inert or contrary from being shown. It refuses an audit of another network or of other
// explanations.
func (t *Trained) HideUnfaithful() (err error) {
	if t.texts == nil {
		return nil // there is nothing to hide
	}
	t.hide, err = audit.ReadVerdicts(filepath.Join(t.Dir, auditDir, auditVerdict), t.subject, "audit the run: recpie audit "+t.Dir)
	return err
}

// Load opens the network of the selected round and its explanations.
func (t *Trained) Load(ctx context.Context) error {
	t.name = "no_explanations"
	switch {
	case t.Embed != nil && t.Report.Test.Untrained == nil && t.Report.Test.Heuristic != nil:
		t.name, t.texts = "heuristic", heuristic(t.Work, t.Work.Pairs())
		var err error
		if t.expl, err = vectorise(ctx, t.Embed, t.Work.Data, t.texts); err != nil {
			return err
		}
	case t.Embed != nil:
		t.name = "untrained"
		if k := t.Report.SelectedRound; k > 0 {
			t.name = fmt.Sprintf("round-%d", k)
		}
		if err := t.loadTexts(ctx); err != nil {
			return err
		}
	}
	folder, err := t.folder(t.name)
	if err != nil {
		return fault.New(fault.Fatal, "run", err)
	}
	if t.texts != nil {
		if t.subject, err = subjectOf(folder, t.texts); err != nil {
			return err
		}
	}
	t.model, err = recommender.LoadModel(folder, t.Work.Final.Net)
	return err
}

// folder is where the network of a compared system is kept.
func (t *Trained) folder(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(t.Dir, "networks", name+".json"))
	if err != nil {
		return "", err
	}
	var res Result
	if err := json.Unmarshal(b, &res); err != nil {
		return "", fmt.Errorf("networks/%s.json: %w", name, err)
	}
	return filepath.Join(t.Dir, "networks", filepath.Base(res.Model)), nil
}

// network opens the network of a compared system.
func (t *Trained) network(name string) (*recommender.Model, error) {
	folder, err := t.folder(name)
	if err != nil {
		return nil, fault.New(fault.Fatal, "run", err)
	}
	return recommender.LoadModel(folder, t.Work.Final.Net)
}

func (t *Trained) loadTexts(ctx context.Context) error {
	s, err := store.Open(ctx, filepath.Join(t.Dir, "explanations.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	id, err := s.Lookup(ctx, fmt.Sprintf("round-%d", t.Report.SelectedRound))
	if err != nil {
		return err
	}
	x := &Explainer{Work: t.Work, Store: s}
	if t.texts, err = x.read(ctx, id, t.Work.Pairs()); err != nil {
		return err
	}
	t.expl, err = vectorise(ctx, t.Embed, t.Work.Data, t.texts)
	return err
}

// Close frees the network.
func (t *Trained) Close() { t.model.Close() }

// Predict predicts the test records of the run, of one user only when user is not "".
func (t *Trained) Predict(ctx context.Context, user string) ([]Prediction, error) {
	w := t.Work
	var recs []int32
	for _, r := range w.Split.Test {
		if user == "" || w.Data.Users[w.Data.Records[r].User] == user {
			recs = append(recs, r)
		}
	}
	if len(recs) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Item, "predict", "no test record of user %q in this run", user), "leave --user out to see whose records there are")
	}
	p, err := t.model.Predict(ctx, recs, t.expl)
	if err != nil {
		return nil, err
	}
	at := map[int32]int{}
	if t.texts != nil {
		for i, r := range t.texts.Recs {
			at[r] = i
		}
	}
	truth := w.Data.Labels(recs)
	out := make([]Prediction, len(recs))
	for i, r := range recs {
		rec := w.Data.Records[r]
		out[i] = Prediction{User: w.Data.Users[rec.User], Item: w.Data.Items[rec.Item].ID, Title: w.Data.Items[rec.Item].Title,
			Rating: w.Data.Spec.Rating(float64(p.Y[i])), TrueRating: w.Data.Spec.Rating(float64(truth[i])), Attention: map[string]float64{}}
		if p.SD != nil {
			out[i].SD = float64(p.SD[i]) * (w.Data.Spec.Max - w.Data.Spec.Min)
		}
		for k, name := range recommender.Inputs {
			out[i].Attention[name] = float64(p.Attention[i][k])
		}
		if t.texts != nil {
			k := at[r]
			out[i].Positive, out[i].Negative = t.texts.Text[prompts.Positive][k], t.texts.Text[prompts.Negative][k]
			t.veil(&out[i], r)
		}
	}
	return out, nil
}

// veil takes away sentences that must not be shown and says why.
func (t *Trained) veil(p *Prediction, rec int32) {
	if t.hide == nil {
		return
	}
	var h Hidden
	if h.Positive, h.Negative = t.hide.Hide(rec); h.Positive != "" {
		p.Positive = ""
	}
	if h.Negative != "" {
		p.Negative = ""
	}
	if h != (Hidden{}) {
		p.Hidden = &h
	}
}
