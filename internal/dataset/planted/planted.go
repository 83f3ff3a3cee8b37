// Package planted makes a domain whose truth is known: every user cares about one attribute, and rates items by whether they have it.
//
// It serves to show that a mechanism works when there is something to find. Whoever is told which attribute a user cares about plays
// an oracle, and a result shown on this domain should say so.
package planted

import (
	"fmt"
	"math"
	"math/rand/v2"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// attributes are things that a restaurant may have, in words that fit into a sentence.
var attributes = []string{
	"outdoor seating", "live music", "vegan dishes", "craft beer", "late hours", "fireplace", "river view", "home delivery", "kids menu", "open kitchen",
	"free parking", "wine cellar", "tasting menu", "quick lunches", "fresh seafood", "wood-fired pizza", "board games", "quiet corners", "spicy curries", "organic coffee",
}

// Config is the size of the domain. The zero value of a field means the default.
type Config struct {
	Seed       int64
	Users      int     // 200
	Items      int     // 100
	Attributes int     // 20, at most 20
	PerUser    int     // items that a user rates, 25: the split makes 20 training and 5 test records of them
	Share      float64 // of the items that have an attribute, .4
	Effect     float64 // log odds by which having the attribute raises, and lacking it lowers, 1.5
	Noise      float64 // standard deviation added to the log odds, .5; negative for none
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Users, 200}, {&c.Items, 100}, {&c.Attributes, len(attributes)}, {&c.PerUser, 25}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Share == 0 {
		c.Share = .4
	}
	if c.Effect == 0 {
		c.Effect = 1.5
	}
	if c.Noise == 0 {
		c.Noise = .5
	}
	c.Noise = max(0, c.Noise)
	return c
}

// Domain is a planted data set with its truth.
type Domain struct {
	Dataset    *dataset.Dataset
	Attributes []string // an item's attributes are its categories
	Cares      []int32  // per user, the attribute that decides
	has        [][]bool // per item and attribute
}

// Has says whether an item has an attribute.
func (d *Domain) Has(item, attribute int32) bool { return d.has[item][attribute] }

// New makes the domain of a seed: attributes of items by chance, then for every user the one attribute g_u, random items, and
// ratings clip(round(1 + 4σ(±effect + N(0, noise²))), 1, 5).
func New(cfg Config) (*Domain, error) {
	c := cfg.withDefaults()
	if c.Users < 1 || c.Items < 1 || c.Attributes < 1 || c.Attributes > len(attributes) || c.PerUser < dataset.MinRecords || c.PerUser > c.Items {
		return nil, fault.Newf(fault.Fatal, "planted", "no domain of %d users, %d items, %d attributes (at most %d) and %d records a user", c.Users, c.Items, c.Attributes, len(attributes), c.PerUser)
	}
	rng := rand.New(rand.NewPCG(uint64(c.Seed), 0x91a47ed))
	d := &Domain{Attributes: attributes[:c.Attributes], has: make([][]bool, c.Items), Cares: make([]int32, c.Users)}
	items := make([]dataset.Item, c.Items)
	for i := range items {
		d.has[i] = make([]bool, c.Attributes)
		items[i] = dataset.Item{ID: fmt.Sprintf("i%05d", i), Title: fmt.Sprintf("Restaurant %d", i+1)}
		for a := range d.has[i] {
			if d.has[i][a] = rng.Float64() < c.Share; d.has[i][a] {
				items[i].Categories = append(items[i].Categories, attributes[a])
			}
		}
	}
	var events []dataset.Event
	for u := range c.Users {
		care := rng.IntN(c.Attributes)
		d.Cares[u] = int32(care)
		for k, i := range rng.Perm(c.Items)[:c.PerUser] {
			z := -c.Effect
			if d.has[i][care] {
				z = c.Effect
			}
			z += c.Noise * rng.NormFloat64()
			rating := min(5, max(1, math.Round(1+4/(1+math.Exp(-z)))))
			events = append(events, dataset.Event{User: fmt.Sprintf("u%05d", u), Item: items[i].ID, Rating: rating,
				Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	spec := dataset.Spec{Domain: "restaurant", Verb: "visited this restaurant", Min: 1, Max: 5, ItemInputs: []string{"title", "categories"}}
	ds, err := dataset.New(fmt.Sprintf("planted-%d", c.Seed), spec, items, events)
	if err != nil {
		return nil, err
	}
	d.Dataset = ds
	return d, nil
}
