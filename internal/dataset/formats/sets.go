package formats

import (
	"strings"
	"time"

	"recpie/internal/dataset"
)

// The publishers' JSON forms. What a format calls an average rating or a count of ratings is made of outcomes and never read.

func amazon2014(o Options) *jsonSet {
	return &jsonSet{opts: o, spec: product(),
		items: itemKeys{python: true, keys: []string{"asin", "title", "categories", "description", "price", "brand"}, item: amazonItem},
		reviews: reviewKeys{user: "reviewerID", item: "asin", rating: "overall", time: "unixReviewTime", unit: time.Second,
			outcomes: []column{{"reviewText", "review"}, {"summary", "summary"}}}}
}

func amazon2018(o Options) *jsonSet {
	return &jsonSet{opts: o, spec: product(),
		items: itemKeys{keys: []string{"asin", "title", "category", "description", "price", "brand"}, item: amazonItem},
		reviews: reviewKeys{user: "reviewerID", item: "asin", rating: "overall", time: "unixReviewTime", unit: time.Second,
			outcomes: []column{{"reviewText", "review"}, {"summary", "summary"}, {"vote", "votes"}, {"verified", "verified"}}}}
}

func amazon2023(o Options) *jsonSet {
	return &jsonSet{opts: o, spec: product(),
		items: itemKeys{keys: []string{"parent_asin", "title", "categories", "description", "price", "store", "main_category"}, item: amazonItem},
		reviews: reviewKeys{user: "user_id", item: "parent_asin", rating: "rating", time: "timestamp", unit: time.Millisecond,
			outcomes: []column{{"text", "review"}, {"title", "summary"}, {"helpful_vote", "votes"}, {"verified_purchase", "verified"}}}}
}

func product() dataset.Spec {
	return dataset.Spec{Domain: "product", Verb: "purchased this product", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "profile", "price", "brand"}, Review: "review"}
}

func amazonItem(_ []value, text func(int) string, list func(int) []string) (dataset.Item, status) {
	it := dataset.Item{ID: text(0), Title: text(1), Categories: distinct(list(2)), Profile: strings.Join(list(3), " "), Price: text(4)}
	if brand := text(5); brand != "" {
		it.Extra = []dataset.Field{{Name: "brand", Value: brand}}
	}
	return it, kept
}

func distinct(all []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range all {
		if s = strings.ReplaceAll(s, "|", "/"); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// yelp reads business.json and review.json. Where picks businesses: category (Restaurants unless stated; * for all), city, state, metro as
// names of cities that belong together separated by bars.
func yelp(o Options) *jsonSet {
	kinds := o.Where["category"]
	if len(kinds) == 0 {
		kinds = []string{"Restaurants"}
	}
	return &jsonSet{opts: o, byItem: true,
		spec: dataset.Spec{Domain: "restaurant", Verb: "visited this restaurant", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "city", "state"}, Review: "review"},
		items: itemKeys{keys: []string{"business_id", "name", "categories", "city", "state"}, item: func(_ []value, text func(int) string, _ func(int) []string) (dataset.Item, status) {
			it := dataset.Item{ID: text(0), Title: text(1)}
			for c := range strings.SplitSeq(text(2), ",") {
				if c = strings.TrimSpace(c); c != "" {
					it.Categories = append(it.Categories, c)
				}
			}
			city, state := text(3), text(4)
			it.Extra = fields("city", city, "state", state)
			if !anyOf(kinds, it.Categories...) || !anyOf(o.Where["city"], city) || !anyOf(o.Where["state"], state) {
				return it, skipped
			}
			return it, kept
		}},
		reviews: reviewKeys{user: "user_id", item: "business_id", rating: "stars", time: "date",
			outcomes: []column{{"text", "review"}, {"useful", "votes"}}}}
}

// google reads the metadata and reviews of Google Local. Where picks places by postcode, as 94035-94043, category, or state.
func google(o Options) *jsonSet {
	return &jsonSet{opts: o, byItem: len(o.Where) > 0,
		spec: dataset.Spec{Domain: "place", Verb: "visited this place", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "profile", "price", "address"}, Review: "review"},
		items: itemKeys{keys: []string{"gmap_id", "name", "category", "description", "price", "address"}, item: func(_ []value, text func(int) string, list func(int) []string) (dataset.Item, status) {
			it := dataset.Item{ID: text(0), Title: text(1), Categories: distinct(list(2)), Profile: text(3), Price: text(4), Extra: fields("address", text(5))}
			if !anyOf(o.Where["category"], it.Categories...) || !inPostcodes(o.Where["postcode"], text(5)) {
				return it, skipped
			}
			return it, kept
		}},
		reviews: reviewKeys{user: "user_id", item: "gmap_id", rating: "rating", time: "time", unit: time.Millisecond, outcomes: []column{{"text", "review"}}}}
}

// tripadvisor reads the lines that docs/formats.md makes of the reviews of PETER and NETE: template is [aspect, opinion, sentence, score].
func tripadvisor(o Options) *jsonSet {
	return &jsonSet{opts: o,
		spec: dataset.Spec{Domain: "hotel", Verb: "stayed at this hotel", Min: 1, Max: 5, ItemInputs: []string{"title", "categories"}, Review: "review"},
		items: itemKeys{keys: []string{"item", "name", "category"}, item: func(_ []value, text func(int) string, list func(int) []string) (dataset.Item, status) {
			return dataset.Item{ID: text(0), Title: text(1), Categories: distinct(list(2))}, kept
		}},
		reviews: reviewKeys{user: "user", item: "item", rating: "rating", time: "time", unit: time.Second,
			outcomes: []column{{"review", "review"}, {"aspect", "aspects"}, {"opinion", "opinion"}, {"sentence", "sentence"}, {"score", "polarity"}}}}
}

// lines reads JSON lines whose keys are named by the options or are among the usual ones.
func lines(o Options) *jsonSet {
	key := func(name, usual string) string {
		if k := o.Where[name]; len(k) == 1 {
			return k[0]
		}
		return usual
	}
	return &jsonSet{opts: o, spec: dataset.Spec{Review: "review", ItemInputs: []string{"title", "categories", "profile", "price"}},
		items: itemKeys{keys: []string{key("item", "item_id"), "title", "categories", "profile", "price"}, item: func(v []value, text func(int) string, list func(int) []string) (dataset.Item, status) {
			it := dataset.Item{ID: text(0), Title: text(1), Profile: text(3), Price: text(4)}
			if v[2].isText() {
				for c := range strings.SplitSeq(text(2), "|") {
					if c != "" {
						it.Categories = append(it.Categories, c)
					}
				}
			} else {
				it.Categories = distinct(list(2))
			}
			return it, kept
		}},
		reviews: reviewKeys{user: key("user", "user_id"), item: key("item", "item_id"), rating: key("rating", "rating"), time: key("time", "timestamp"), unit: time.Second,
			outcomes: []column{{key("review", "review"), "review"}, {"summary", "summary"}, {"aspects", "aspects"}}}}
}

func fields(pairs ...string) (out []dataset.Field) {
	for k := 0; k < len(pairs); k += 2 {
		if pairs[k+1] != "" {
			out = append(out, dataset.Field{Name: pairs[k], Value: pairs[k+1]})
		}
	}
	return out
}

// anyOf says whether one of the values is asked for; nothing asked for takes all, and so does *.
func anyOf(asked []string, values ...string) bool {
	if len(asked) == 0 {
		return true
	}
	for _, a := range asked {
		for _, v := range values {
			if strings.EqualFold(a, v) {
				return true
			}
		}
		if a == "*" {
			return true
		}
	}
	return false
}

// inPostcodes finds a postcode of five digits in the address that lies in one of the ranges.
func inPostcodes(ranges []string, address string) bool {
	if len(ranges) == 0 {
		return true
	}
	for word := range strings.FieldsFuncSeq(address, func(r rune) bool { return r == ' ' || r == ',' || r == '-' }) {
		if len(word) != 5 || strings.Trim(word, "0123456789") != "" {
			continue
		}
		for _, r := range ranges {
			low, high, two := strings.Cut(r, "-")
			if !two {
				high = low
			}
			if low <= word && word <= high {
				return true
			}
		}
	}
	return false
}
