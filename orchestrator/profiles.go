package orchestrator

import (
	"context"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
	"recpie/prompts"
)

// Augmented counts what a call of Augment did.
type Augmented struct {
	Items     int            `json:"items"`     // that have a profile, on either side
	Questions int            `json:"questions"` // distinct ones: an item's profile is asked anew where a fold less changes its terms
	New       int            `json:"new"`       // asked in this call
	Unknown   int            `json:"unknown"`   // items of which too little is known to ask
	Rejected  map[string]int `json:"rejected"`
	Tokens    int            `json:"tokens"` // of the answers to these
}

// WrittenProfile is an item's profile on one side.
type WrittenProfile struct {
	Item    string   `json:"item_id"`
	Side    string   `json:"side"`          // train or final
	Fold    int32    `json:"fold"`          // that was left out
	Whole   bool     `json:"whole"`         // nothing was
	Terms   []string `json:"terms"`         // of reviews, that the model was told
	Profile string   `json:"profile"`       // "" for none
	Why     string   `json:"why,omitempty"` // there is none
	New     bool     `json:"-"`             // asked in this call
}

// Augment has a model write profiles: of the items that the prompts of recs show, as each record may know them, and, for pairs nobody rated, of
// items as everything visible knows them. Prompts show them from here on. The model is told an item's own fields and the terms that
// reviews of other folds speak of; each distinct question is asked once, as Asker says.
func (w *Workspace) Augment(ctx context.Context, asker *Asker, recs, items []int32) (*Augmented, []WrittenProfile, error) {
	if err := w.knowItems(ctx); err != nil {
		return nil, nil, err
	}
	ask, err := prompts.NewQuestions(w.Data, w.prompts.Redact)
	if err != nil {
		return nil, nil, err
	}
	sum := &Augmented{Rejected: map[string]int{}}
	var written []WrittenProfile
	with, without := map[int32]bool{}, map[int32]bool{}
	for _, side := range w.sides() {
		all, err := w.augment(ctx, asker, ask, side, w.shown(side, recs, items), sum)
		if err != nil {
			return nil, nil, err
		}
		for k, p := range all {
			if without[k.item] = p.Profile == "" && p.Why == unknownItem; p.Profile != "" {
				with[k.item] = true
			}
		}
		for _, k := range sortedKnown(all) {
			written = append(written, all[k])
		}
	}
	sum.Items = len(with)
	for _, un := range without {
		if un {
			sum.Unknown++
		}
	}
	return sum, written, w.profilesChanged()
}

// knowItems reads on both sides what reviewers say of items, unless it is known or must not be.
func (w *Workspace) knowItems(ctx context.Context) error {
	var g errgroup.Group
	for _, side := range w.sides() {
		g.Go(func() (err error) {
			if side.Items == nil {
				side.Items, err = newItems(ctx, side.View, w.seed, !w.prompts.Redact)
			}
			return err
		})
	}
	return g.Wait()
}

// unknownItem is why an item has no profile of which nothing is known.
const unknownItem = "unknown"

// shown lists what a side's prompts of recs show: candidates, and of the history the items that have no title, which are named by their profile.
func (w *Workspace) shown(side *Side, recs, items []int32) []knownItem {
	need := map[knownItem]bool{}
	for _, rec := range recs {
		if w.SideOf(rec) != side {
			continue
		}
		need[side.Items.known(w.Data.Records[rec].Item, rec)] = true
		past := side.View.History(rec)
		for _, p := range past[max(0, len(past)-w.prompts.History):] {
			if item := w.Data.Records[p].Item; w.Data.Items[item].Title == "" {
				need[side.Items.known(item, rec)] = true
			}
		}
	}
	if side == &w.Final {
		for _, item := range items {
			need[side.Items.whole(item)] = true
		}
	}
	return sortedKnown(need)
}

// augment asks for one side's profiles.
func (w *Workspace) augment(ctx context.Context, asker *Asker, ask *prompts.Questions, side *Side, need []knownItem, sum *Augmented) (map[knownItem]WrittenProfile, error) {
	all := make(map[knownItem]WrittenProfile, len(need))
	var keys []knownItem
	var questions []Question
	distinct := map[string]bool{}
	for _, k := range need {
		p := WrittenProfile{Item: w.Data.Items[k.item].ID, Side: w.nameOf(side), Fold: k.fold, Whole: k == side.Items.whole(k.item), Terms: side.Items.terms(k)}
		text, err := ask.Profile(k.item, p.Terms)
		if err != nil && fault.ClassOf(err) != fault.Item {
			return nil, err
		}
		if err != nil {
			p.Why = unknownItem
		} else {
			keys = append(keys, k)
			distinct[text] = true
			questions = append(questions, Question{Kind: prompts.ProfileVersion + " " + side.View.Digest(), Text: text, MaxTokens: prompts.ProfileTokens})
		}
		all[k] = p
	}
	replies, err := asker.Ask(ctx, questions, func(answer string) (string, string) {
		profile, rej := prompts.ParseProfile(answer)
		if rej != nil {
			return "", rej.Reason.String()
		}
		return profile, ""
	})
	if err != nil {
		return nil, err
	}
	sum.Questions += len(distinct)
	side.Items.profiles = make(map[knownItem]string, len(keys))
	for i, k := range keys {
		p := all[k]
		p.Profile, p.Why, p.New = replies[i].Text, replies[i].Reason, replies[i].New
		if p.New {
			sum.New++
			sum.Tokens += replies[i].Tokens
		}
		if p.Why != "" {
			sum.Rejected[p.Why]++
		} else {
			side.Items.profiles[k] = p.Profile
		}
		all[k] = p
	}
	return all, nil
}
