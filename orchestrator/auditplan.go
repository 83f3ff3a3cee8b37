package orchestrator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"

	"recpie/internal/audit"
	"recpie/internal/dataset"
	"recpie/prompts"
)

// auditPlan says which records are audited with which sentences.
type auditPlan struct {
	set    AuditSettings
	work   *Workspace
	texts  map[int32]audit.Pair
	recs   []int32           // the sample, ascending
	curves map[int32]bool    // of these, those with curves
	random map[int32]int32   // record → the record whose sentences are put in their place
	other  map[int32][]int32 // item → explained records
	truth  []float32         // per recs
}

func (t *Trained) newAuditPlan(s AuditSettings) *auditPlan {
	w := t.Work
	p := &auditPlan{set: s, work: w, texts: map[int32]audit.Pair{}, curves: map[int32]bool{}, random: map[int32]int32{}, other: map[int32][]int32{}}
	for i, r := range t.texts.Recs {
		pair := audit.Pair{t.texts.Text[prompts.Positive][i], t.texts.Text[prompts.Negative][i]}
		p.texts[r] = pair
		if pair != (audit.Pair{}) {
			item := w.Data.Records[r].Item
			p.other[item] = append(p.other[item], r)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(s.Seed), 0xa0d17))
	test := w.Split.Test
	if s.Sample > 0 && s.Sample < len(test) {
		for _, i := range rng.Perm(len(test))[:s.Sample] {
			p.recs = append(p.recs, test[i])
		}
		slices.Sort(p.recs)
	} else {
		p.recs = test
	}
	for _, i := range rng.Perm(len(p.recs))[:min(s.Curves, len(p.recs))] {
		p.curves[p.recs[i]] = true
	}
	p.draw(rng, test)
	p.draw(rng, w.Split.Val)
	p.truth = w.Data.Labels(p.recs)
	return p
}

// draw gives every record of a part another one of the part whose sentences stand in for its own: of another user where there is one.
func (p *auditPlan) draw(rng *rand.Rand, part []int32) {
	for _, r := range part {
		to := r
		for range 8 {
			if to = part[rng.IntN(len(part))]; p.work.Data.Records[to].User != p.work.Data.Records[r].User {
				break
			}
		}
		p.random[r] = to
	}
}

// cases returns those of a range of the sample.
func (p *auditPlan) cases(from, to int) []audit.Case {
	var out []audit.Case
	for i := from; i < to; i++ {
		c := p.of(p.recs[i], p.texts[p.recs[i]])
		c.Truth, c.Curve = float64(p.truth[i]), p.curves[p.recs[i]]
		out = append(out, c)
	}
	return out
}

func (p *auditPlan) of(rec int32, texts audit.Pair) audit.Case {
	r, ds := p.work.Data.Records[rec], p.work.Data
	c := audit.Case{Record: rec, User: r.User, UserID: ds.Users[r.User], ItemID: ds.Items[r.Item].ID, Texts: texts,
		Random: p.texts[p.random[rec]], Edit: sentences{p.work.SideOf(rec).Renderer}}
	if o, ok := p.another(r); ok {
		pair := p.texts[o]
		c.Other = &pair
	}
	return c
}

// another returns an explained record of the same item by another user. Who it is depends on the user, so that not everybody gets the same.
func (p *auditPlan) another(r dataset.Record) (int32, bool) {
	all := p.other[r.Item]
	at := int(r.User) % max(1, len(all))
	for k := range all {
		if o := all[(at+k)%len(all)]; p.work.Data.Records[o].User != r.User {
			return o, true
		}
	}
	return 0, false
}

// calibrated bounds the validation records of a calibration.
const calibrated = 2000

// calibration returns validation records with the sentences of others.
func (p *auditPlan) calibration() []audit.Case {
	var out []audit.Case
	rng := rand.New(rand.NewPCG(uint64(p.set.Seed), 0xca11b))
	val := p.work.Split.Val
	for _, i := range rng.Perm(len(val)) {
		if texts := p.texts[p.random[val[i]]]; len(out) < calibrated && texts != (audit.Pair{}) {
			out = append(out, p.of(val[i], texts))
		}
	}
	return out
}

// digest names all that the rows depend on.
func (p *auditPlan) digest(s audit.Subject, t audit.Threshold) string {
	h := sha256.New()
	fmt.Fprintln(h, "recpie audit 1", s.Network, s.Explanations, p.work.Split.Digest, p.work.Final.Renderer.Digest(), p.work.Train.Renderer.Digest(), p.set.Sample, p.set.Curves, p.set.Seed, t.Used)
	return hex.EncodeToString(h.Sum(nil))
}

func (p *auditPlan) notes(t audit.Threshold) (out []string) {
	alone := 0
	for _, r := range p.recs {
		if _, ok := p.another(p.work.Data.Records[r]); !ok {
			alone++
		}
	}
	if alone > 0 {
		out = append(out, fmt.Sprintf("%d of %d records are of an item that no other user was told of: they have no %s", alone, len(p.recs), audit.SwappedUser))
	}
	if t.Noise == nil {
		out = append(out, "the run has no network trained on shuffled explanations, so the threshold is not calibrated")
	}
	return out
}
