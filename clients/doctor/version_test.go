package doctor

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The order of releases, each below the next.
func TestReleasesInOrder(t *testing.T) {
	order := []string{"0.9", "0.10.0.dev1", "0.10.0a1", "0.10.0b2", "0.10.0rc1", "0.10.0rc2", "0.10.0", "0.10.0.post1", "0.10.1", "0.10.1.1", "0.10.2", "0.11.0", "1.0.0"}
	var all []release
	for _, text := range order {
		r, ok := parseRelease(text)
		if !ok {
			t.Fatalf("%s was not understood", text)
		}
		all = append(all, r)
	}
	for i := range all {
		for j := range all {
			if got, want := all[i].compare(all[j]), cmpInt(i, j); got != want {
				t.Errorf("%s beside %s: %d", order[i], order[j], got)
			}
		}
	}
	for text, same := range map[string]string{"v0.32.0": "0.32.0", "0.32.0+cu129": "0.32.0", "0.32": "0.32.0", "0.32.0-rc1": "0.32.0rc1", "0.11.1rc2.dev3+gabc": "0.11.1rc2"} {
		a, ok := parseRelease(text)
		b, _ := parseRelease(same)
		if !ok || a.compare(b) != 0 {
			t.Errorf("%s is not taken for %s", text, same)
		}
	}
	for _, text := range []string{"", "main", "dev", "99999999999999999999.1"} {
		if _, ok := parseRelease(text); ok {
			t.Errorf("%q is taken for a release", text)
		}
	}
}

func cmpInt(a, b int) int {
	return max(-1, min(1, a-b))
}

func TestHoles(t *testing.T) {
	for _, h := range holes {
		from, ok1 := parseRelease(h.from)
		fixed, ok2 := parseRelease(h.fixed)
		if !ok1 || !ok2 || from.compare(fixed) >= 0 {
			t.Errorf("%+v", h)
		}
	}
	for text, want := range map[string][]bool{ // which of the table's rows are open
		"0.10.1": {}, "0.10.2": {true, false, false, false, true}, "0.11.0": {true, false, false, false, true}, "0.11.1rc1": {true, false, false, false, true}, "0.11.1": {false, true, false, false, true},
		"0.12.0": {false, true, false, true, true}, "0.13.0": {false, false, false, true, true}, "0.20.1": {false, false, false, true, true}, "0.20.2rc0": {false, false, true, true, true},
		"0.25.1": {false, false, true, false, true}, "0.26.0": {false, false, false, false, true}, "0.32.0": {}, "0.33.0": {},
	} {
		r, _ := parseRelease(text)
		open, fixed := r.known()
		for n, h := range holes {
			if got := slices.ContainsFunc(open, func(o hole) bool { return o.what == h.what }); got != (n < len(want) && want[n]) {
				t.Errorf("%s: %s is open: %v", text, h.what, got)
			}
		}
		if (len(open) > 0) != (fixed == "0.32.0") {
			t.Errorf("%s: %d holes, fixed in %q", text, len(open), fixed)
		}
	}
}

// Upgrading to what known names closes everything.
func TestUpgradeClosesAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := release{numbers: [4]int{rapid.IntRange(0, 1).Draw(t, "major"), rapid.IntRange(0, 40).Draw(t, "minor"), rapid.IntRange(0, 3).Draw(t, "patch")}, stage: rapid.IntRange(-4, 1).Draw(t, "stage")}
		open, fixed := r.known()
		if len(open) == 0 {
			return
		}
		to, ok := parseRelease(fixed)
		if left, _ := to.known(); !ok || len(left) > 0 || to.compare(r) <= 0 {
			t.Fatalf("%+v: upgrade to %s leaves %v", r, fixed, left)
		}
	})
}
