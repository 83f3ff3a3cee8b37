package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"recpie/internal/audit"
	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/prompts"
	"recpie/recommender"
)

// Files of an audit, in the folder audit of the run directory.
const (
	auditDir     = "audit"
	auditRows    = "rows.jsonl"
	auditVerdict = "verdicts.jsonl"
	auditSummary = "summary.json"
	auditPage    = "audit.html"
)

// AuditSettings say how much is audited.
type AuditSettings struct {
	Sample    int     // test records at most, drawn by seed; 0: all
	Curves    int     // of these, records whose reasons are also taken out one after the other, at most
	Seed      int64   // draws the sample and the random pairs
	Threshold float64 // of a change; 0: calibrated
	Show      *progress.Reporter
}

// Audit measures whether the predictions for test records depend on their explanations and writes what it finds into the folder audit of
// the run directory. t must be loaded and its Embed open. A killed audit goes on where it stopped. The journal is the caller's to close.
func (t *Trained) Audit(ctx context.Context, s AuditSettings) (*audit.Summary, *audit.Journal, error) {
	if t.texts == nil {
		return nil, nil, fault.WithHint(fault.Newf(fault.Fatal, "audit", "the run has no explanations"), "train with --explanations on")
	}
	if err := os.MkdirAll(filepath.Join(t.Dir, auditDir), 0o755); err != nil {
		return nil, nil, fault.New(fault.Fatal, "audit", err)
	}
	plan := t.newAuditPlan(s)
	threshold, err := t.threshold(ctx, plan)
	if err != nil {
		return nil, nil, err
	}
	j, err := audit.OpenJournal(filepath.Join(t.Dir, auditDir, auditRows), plan.digest(t.subject, threshold))
	if err != nil {
		return nil, nil, err
	}
	sum, err := t.audit(ctx, plan, threshold, j)
	if err != nil {
		return nil, nil, errors.Join(err, j.Close())
	}
	return sum, j, nil
}

func (t *Trained) audit(ctx context.Context, plan *auditPlan, threshold audit.Threshold, j *audit.Journal) (*audit.Summary, error) {
	n := len(plan.recs)
	var task *progress.Task
	if j.Done() < n {
		task = plan.set.Show.Start("audit", int64(n), int64(j.Done()))
	}
	net := &textNetwork{model: t.model, embed: t.Embed}
	if err := audit.Run(ctx, net, threshold, j, n, plan.cases, func(k int) { task.Add(int64(k)) }); err != nil {
		return nil, err
	}
	task.Done("")
	sum, err := audit.Summarise(audit.Summary{Run: t.Dir, Data: t.Work.Data.Name, Network: t.name, Subject: t.subject, Of: len(t.Work.Split.Test), Threshold: threshold, Notes: plan.notes(threshold)}, j)
	if err != nil {
		return nil, err
	}
	return sum, t.writeAudit(sum, j)
}

func (t *Trained) writeAudit(sum *audit.Summary, j *audit.Journal) error {
	at := func(name string) string { return filepath.Join(t.Dir, auditDir, name) }
	b, err := json.MarshalIndent(sum, "", "  ")
	if err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	page, err := sum.HTML()
	if err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	if err := audit.WriteVerdicts(at(auditVerdict), t.subject, sum.Threshold.Used, j); err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	if err := durable.WriteFile(at(auditPage), page, 0o644); err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	return fault.New(fault.Fatal, "audit", durable.WriteFile(at(auditSummary), append(b, '\n'), 0o644))
}

// threshold calibrates on validation records that get each other's sentences, by the network of the run that was trained on shuffled explanations:
// to it sentences mean nothing. It is asked for again when an audit goes on, and gives the same.
func (t *Trained) threshold(ctx context.Context, plan *auditPlan) (audit.Threshold, error) {
	var out audit.Threshold
	cases := plan.calibration()
	if len(cases) > 0 {
		var err error
		if out.Own, err = audit.Calibrate(ctx, t.name, &textNetwork{model: t.model, embed: t.Embed}, cases); err != nil {
			return out, err
		}
		null, err := t.network("shuffled_refit")
		switch {
		case errors.Is(err, fs.ErrNotExist): // a run from before the control was kept
		case err != nil:
			return out, err
		default:
			defer null.Close()
			if out.Noise, err = audit.Calibrate(ctx, "shuffled_refit", &textNetwork{model: null, embed: t.Embed}, cases); err != nil {
				return out, err
			}
		}
	}
	out.Choose(plan.set.Threshold)
	return out, nil
}

// textNetwork is a network that takes sentences as texts.
type textNetwork struct {
	model *recommender.Model
	embed Embedder
}

// Predict embeds the distinct sentences and predicts.
func (n *textNetwork) Predict(ctx context.Context, queries []audit.Query) ([]audit.Prediction, error) {
	index := map[string]int32{"": -1}
	var texts []string
	at := func(s string) int32 {
		k, ok := index[s]
		if !ok {
			k = int32(len(texts))
			index[s], texts = k, append(texts, s)
		}
		return k
	}
	recs, pos, neg := make([]int32, len(queries)), make([]int32, len(queries)), make([]int32, len(queries))
	for i, q := range queries {
		recs[i], pos[i], neg[i] = q.Record, at(q.Positive), at(q.Negative)
	}
	if len(texts) == 0 {
		at("nothing was said") // the dimension of vectors is asked for even where no record has a sentence
	}
	vecs, err := n.embed.Embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	v := &recommender.Vectors{Dim: len(vecs[0]), Data: slices.Concat(vecs...)}
	p, err := n.model.PredictWith(ctx, recs, pos, neg, v)
	if err != nil {
		return nil, err
	}
	out := make([]audit.Prediction, len(queries))
	for i, y := range p.Y {
		out[i] = audit.Prediction{Y: float64(y), Positive: float64(p.Attention[i][0]), Negative: float64(p.Attention[i][1])}
	}
	return out, nil
}

// sentences lets the audit read and alter sentences by the grammar of prompts.
type sentences struct{ *prompts.Renderer }

// Read lists the reasons of a sentence.
func (s sentences) Read(text string) (reasons []audit.Reason, says audit.Stance) {
	aspects, pro, con := s.Aspects(text)
	for _, a := range aspects {
		reasons = append(reasons, audit.Reason{Aspect: a.Name, Lean: a.Lean})
	}
	return reasons, audit.StanceOf(pro, con)
}

// subjectOf names a network by its folder and explanations by their texts.
func subjectOf(folder string, e *Explained) (audit.Subject, error) {
	manifest, err := os.ReadFile(filepath.Join(folder, recommender.ManifestFile)) // it holds the digests of weights and data
	if err != nil {
		return audit.Subject{}, fault.New(fault.Fatal, "run", err)
	}
	net := sha256.Sum256(manifest)
	h := sha256.New()
	for i, r := range e.Recs {
		fmt.Fprintf(h, "%d %q %q\n", r, e.Text[prompts.Positive][i], e.Text[prompts.Negative][i])
	}
	return audit.Subject{Network: hex.EncodeToString(net[:]), Explanations: hex.EncodeToString(h.Sum(nil))}, nil
}
