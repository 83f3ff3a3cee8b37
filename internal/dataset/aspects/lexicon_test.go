package aspects

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// draws of a word's uses among n records of the view.
func drawUses(t *rapid.T) (use, moments) {
	var u use
	var all moments
	for range rapid.IntRange(1, 80).Draw(t, "records") {
		y := float64(rapid.IntRange(0, 4).Draw(t, "y")) / 4
		all = moments{all.n + 1, all.y + y, all.yy + y*y}
		switch rapid.IntRange(0, 3).Draw(t, "uses it") {
		case 1:
			u.add(use{n: 1, y: y})
		case 2:
			u.add(use{negatedN: 1, negatedY: y})
		}
	}
	return u, all
}

func TestStrength(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		u, all := drawUses(t)
		for _, p := range []float64{-1, 0, 1} {
			s := float64(strength(u, p, all))
			if math.IsNaN(s) || math.Abs(s) > 1 {
				t.Fatalf("strength %v of %+v in %+v", s, u, all)
			}
			// ratings turned round turn words round
			turned := use{u.n, u.n - u.y, u.negatedN, u.negatedN - u.negatedY}
			mirror := float64(strength(turned, -p, moments{all.n, all.n - all.y, all.n - 2*all.y + all.yy}))
			if math.Abs(s+mirror) > 1e-6 && math.Abs(s) > leastShift+1e-3 && math.Abs(mirror) > leastShift+1e-3 {
				t.Fatalf("strength %v, mirrored %v", s, mirror)
			}
			// a further review above the mean that uses the word does not weaken it
			if p != 0 {
				better := u
				better.add(use{n: 1, y: 1})
				if now := float64(strength(better, p, all)); now < s-1e-6 && s < 1-all.y/all.n {
					t.Fatalf("strength %v, after a review with y = 1 %v", s, now)
				}
			}
		}
		if strength(use{}, 0, all) != 0 {
			t.Fatal("a word that nobody uses is an opinion")
		}
		if few := (use{n: leastUses - 1, y: leastUses - 1}); strength(few, 0, all) != 0 {
			t.Fatal("a few uses make an opinion")
		}
	})
	for _, c := range []struct {
		prior    float64
		strength float32
		want     int
	}{{1, -.1, 1}, {-1, .1, -1}, {0, .1, 1}, {0, -.1, -1}, {0, 0, 0}} {
		if got := sign(c.prior, c.strength); got != c.want {
			t.Errorf("sign(%v, %v) = %d", c.prior, c.strength, got)
		}
	}
	if strength(use{}, 1, moments{}) <= 0 || strength(use{}, -1, moments{}) >= 0 || prior("too great") != -1 || prior("terrible") != -1 || prior("great") != 1 || prior("wooden") != 0 {
		t.Error("seeds do not speak")
	}
}

func TestListsAgree(t *testing.T) {
	t.Parallel()
	for w := range seedGood {
		if seedBad[w] {
			t.Errorf("%s is good and bad", w)
		}
	}
	for w := range neutral {
		if seedGood[w] || seedBad[w] {
			t.Errorf("%s is neutral and a seed", w)
		}
	}
}
