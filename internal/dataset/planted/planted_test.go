package planted

import (
	"reflect"
	"testing"

	"recpie/internal/dataset"
	"recpie/internal/dataset/terms"
)

func TestDomainHasItsTruth(t *testing.T) {
	d, err := New(Config{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	ds := d.Dataset
	if len(ds.Users) != 200 || len(ds.Items) != 100 || len(ds.Records) != 5000 {
		t.Fatalf("%d users, %d items, %d records", len(ds.Users), len(ds.Items), len(ds.Records))
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := [3]int{len(split.Train), len(split.Val), len(split.Test)}; n != [3]int{200 * 18, 200 * 2, 200 * 5} {
		t.Errorf("train, val, test = %v", n)
	}
	var sum, n [2]float64
	for _, part := range [][]int32{split.Train, split.Test} {
		for i, y := range ds.Labels(part) {
			rec := ds.Records[part[i]]
			side := 0
			if d.Has(rec.Item, d.Cares[rec.User]) {
				side = 1
			}
			sum[side] += float64(y)
			n[side]++
		}
	}
	if lo, hi := sum[0]/n[0], sum[1]/n[1]; lo < .1 || lo > .3 || hi < .7 || hi > .9 {
		t.Errorf("mean y is %.2f without and %.2f with the attribute", lo, hi)
	}
	if share := n[1] / (n[0] + n[1]); share < .35 || share > .45 {
		t.Errorf("the attribute is there in %.2f of the records", share)
	}
	for i, it := range ds.Items {
		have := 0
		for a := range d.Attributes {
			if d.Has(int32(i), int32(a)) {
				have++
			}
		}
		if have != len(it.Categories) {
			t.Fatalf("item %d has %d attributes and %d categories", i, have, len(it.Categories))
		}
	}
}

func TestSeedDecides(t *testing.T) {
	a, _ := New(Config{Seed: 1, Users: 20})
	b, _ := New(Config{Seed: 1, Users: 20})
	c, _ := New(Config{Seed: 2, Users: 20})
	if !reflect.DeepEqual(a, b) {
		t.Error("one seed gave two domains")
	}
	if reflect.DeepEqual(a.Cares, c.Cares) {
		t.Error("two seeds gave one domain")
	}
	if _, err := New(Config{PerUser: 200}); err == nil {
		t.Error("more records than items were accepted")
	}
}

// What a user cares about must be visible in the terms: it is what prompts carry to the language model.
func TestTermsFindWhatUsersCareAbout(t *testing.T) {
	d, err := New(Config{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(d.Dataset, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tm, err := terms.Build(split.FinalView(d.Dataset), terms.Options{Max: len(d.Attributes)})
	if err != nil {
		t.Fatal(err)
	}
	hit, n := 0, 0
	for _, r := range split.Test {
		rec := d.Dataset.Records[r]
		if care := d.Cares[rec.User]; d.Has(rec.Item, care) {
			best, name := float32(-9), ""
			for _, c := range tm.For(r) {
				if c.Taste > best {
					best, name = c.Taste, c.Name
				}
			}
			n++
			if name == d.Attributes[care] {
				hit++
			}
		}
	}
	if share := float64(hit) / float64(n); share < .8 {
		t.Errorf("the best liked term is the right one in %.2f of %d records", share, n)
	}
}
