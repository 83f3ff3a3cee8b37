package terms

import (
	"context"
	"slices"

	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
)

// judged is the vocabulary of what reviews say an opinion of.
type judged struct {
	found  *aspects.Aspects
	byFold [][][]int32
}

func newJudged(view *dataset.View, opts Options) (*judged, error) {
	a, err := aspects.Build(context.Background(), view, aspects.Options{Folds: opts.Folds, FoldSeed: opts.FoldSeed, Max: opts.Words, PerItem: opts.Max})
	if err != nil {
		return nil, err
	}
	j := &judged{a, make([][][]int32, opts.Folds+1)}
	for f := range j.byFold {
		common := a.Vocabulary(f)
		j.byFold[f] = make([][]int32, len(view.Dataset().Items))
		for i := range j.byFold[f] {
			var terms []int32
			for _, t := range a.Item(int32(i), f) {
				terms = append(terms, t.ID)
			}
			for _, t := range common {
				if len(terms) < min(fill, opts.Max) && !slices.Contains(terms, t.ID) {
					terms = append(terms, t.ID)
				}
			}
			j.byFold[f][i] = terms
		}
	}
	return j, nil
}

func (j *judged) names() []string { return j.found.Names() }

func (j *judged) itemTerms(fold int) [][]int32 { return j.byFold[fold] }

func (j *judged) spoken() bool { return true }

func (j *judged) mentions(rec int32, fold int) []int32 { return j.found.Mentions(rec, fold) }
