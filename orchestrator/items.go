package orchestrator

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
)

// Items is what one side knows of items beside their own fields: the aspects that reviews speak of, and profiles that a model wrote. To a
// record of the training part it says what is known without the record's fold. It implements prompts.Items.
type Items struct {
	view     *dataset.View
	aspects  *aspects.Aspects // nil without reviews, or where they must not be used
	profiles map[knownItem]string
	digest   string
}

// knownItem is an item as it is known without a fold.
type knownItem struct{ item, fold int32 }

func newItems(ctx context.Context, view *dataset.View, seed int64, reviews bool) (*Items, error) {
	it := &Items{view: view}
	if reviews && view.Dataset().Spec.Review != "" {
		var err error
		if it.aspects, err = aspects.Build(ctx, view, aspects.Options{FoldSeed: seed, PerItem: aspects.PerRecord}); err != nil {
			return nil, err
		}
		it.aspects.Forget()
	}
	it.sum(seed)
	return it, nil
}

// sum makes the digest: aspects follow from the view and the seed.
func (it *Items) sum(seed int64) {
	h := sha256.New()
	fmt.Fprintf(h, "recpie items 1\n%s %d %v\n", it.view.Digest(), seed, it.aspects != nil)
	for _, k := range sortedKnown(it.profiles) {
		fmt.Fprintf(h, "%d %d %q\n", k.item, k.fold, it.profiles[k])
	}
	it.digest = hex.EncodeToString(h.Sum(nil))
}

func (k knownItem) compare(o knownItem) int {
	return cmp.Or(cmp.Compare(k.item, o.item), cmp.Compare(k.fold, o.fold))
}

// known says which knowledge of an item record rec may have.
func (it *Items) known(item, rec int32) knownItem {
	if it.aspects == nil {
		return knownItem{item, 0}
	}
	return knownItem{item, int32(it.aspects.Fold(rec))}
}

// whole is all that the view knows of an item.
func (it *Items) whole(item int32) knownItem {
	if it.aspects == nil {
		return knownItem{item, 0}
	}
	return knownItem{item, int32(it.aspects.Folds())}
}

// Profile implements prompts.Items.
func (it *Items) Profile(item, rec int32) string { return it.profiles[it.known(item, rec)] }

// Terms implements prompts.Items: up to three aspects, the most characteristic first.
func (it *Items) Terms(item, rec int32) []string { return it.terms(it.known(item, rec)) }

func (it *Items) terms(k knownItem) []string {
	if it.aspects == nil {
		return nil
	}
	return it.aspects.ItemTerms(k.item, int(k.fold))
}

// Digest implements prompts.Items.
func (it *Items) Digest() string { return it.digest }

// ItemText describes an item in words, as record rec may know it: title, categories and profile, or the terms that stand for one. It is what a
// recommender may encode.
func (s *Side) ItemText(item, rec int32) string {
	d := s.View.Dataset().Items[item]
	profile := d.Profile
	if s.Items != nil {
		if written := s.Items.Profile(item, rec); written != "" {
			profile = written
		}
		if terms := s.Items.Terms(item, rec); profile == "" && len(terms) > 0 {
			profile = "Known for " + strings.Join(terms, ", ") + "."
		}
	}
	var parts []string
	for _, text := range []string{d.Title, strings.Join(d.Categories, ", ")} {
		if text != "" {
			parts = append(parts, text+".")
		}
	}
	if profile != "" {
		parts = append(parts, profile)
	}
	return strings.Join(parts, " ")
}
