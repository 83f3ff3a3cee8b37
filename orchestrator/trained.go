package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

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

	model *recommender.Model
	texts *Explained
	expl  *recommender.Explanations
}

// Prediction is one record as the trained system sees it. Ratings are on the data's own scale.
type Prediction struct {
	User       string             `json:"user_id"`
	Item       string             `json:"item_id"`
	Title      string             `json:"title,omitempty"`
	Rating     float64            `json:"rating"`
	Positive   string             `json:"positive,omitempty"`
	Negative   string             `json:"negative,omitempty"`
	Attention  map[string]float64 `json:"attention,omitempty"`
	TrueRating float64            `json:"true_rating"`
}

// Load opens the network of the selected round and its explanations.
func (t *Trained) Load(ctx context.Context) error {
	name := "no_explanations"
	if t.Embed != nil {
		name = "untrained"
		if k := t.Report.SelectedRound; k > 0 {
			name = fmt.Sprintf("round-%d", k)
		}
		if err := t.loadTexts(ctx); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(filepath.Join(t.Dir, "networks", name+".json"))
	if err != nil {
		return fault.New(fault.Fatal, "run", err)
	}
	var res Result
	if err := json.Unmarshal(b, &res); err != nil {
		return fault.New(fault.Fatal, "run", err)
	}
	t.model, err = recommender.LoadModel(filepath.Join(t.Dir, "networks", filepath.Base(res.Model)), t.Work.Final.Net)
	return err
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
		for k, name := range recommender.Inputs {
			out[i].Attention[name] = float64(p.Attention[i][k])
		}
		if t.texts != nil {
			k := at[r]
			out[i].Positive, out[i].Negative = t.texts.Text[prompts.Positive][k], t.texts.Text[prompts.Negative][k]
		}
	}
	return out, nil
}
