package tune

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		text  string
		whole bool
		want  Range
		bad   string
	}{
		{"0..0.5", false, Range{Low: 0, High: .5}, ""},
		{"log:1e-4..1e-2", false, Range{Low: 1e-4, High: 1e-2, Log: true}, ""},
		{"-1..1", false, Range{Low: -1, High: 1}, ""},
		{"8..64", true, Range{Low: 8, High: 64, Whole: true}, ""},
		{"choice:16, 32,64", true, Range{Whole: false, Choices: []string{"16", "32", "64"}}, ""},
		{"choice:true,false", false, Range{Choices: []string{"true", "false"}}, ""},
		{"0.5", false, Range{}, "LOW..HIGH"},
		{"a..b", false, Range{}, `"a"`},
		{"0..nan", false, Range{}, `"nan"`},
		{"0..inf", false, Range{}, `"inf"`},
		{"1..1", false, Range{}, "empty"},
		{"2..1", false, Range{}, "empty"},
		{"log:0..1", false, Range{}, "above 0"},
		{"log:-1..1", false, Range{}, "above 0"},
		{"1.5..3", true, Range{}, "whole"},
		{"choice:1", false, Range{}, "at least two"},
		{"choice:1,,2", false, Range{}, "empty choice"},
		{"choice:1,1", false, Range{}, "twice"},
		{"-1e308..1e308", false, Range{}, "empty"},
	} {
		got, err := ParseRange(c.text, c.whole)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v, want %q", c.text, err, c.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		} else if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

func rangeOf(t *rapid.T) Range {
	if rapid.Bool().Draw(t, "choices") {
		return Range{Choices: rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{1,3}`), 2, 5, rapid.ID[string]).Draw(t, "choice")}
	}
	r := Range{Whole: rapid.Bool().Draw(t, "whole"), Log: rapid.Bool().Draw(t, "log")}
	if r.Whole {
		r.Low = float64(rapid.IntRange(1, 1000).Draw(t, "low"))
		r.High = r.Low + float64(rapid.IntRange(1, 1000).Draw(t, "wide"))
		return r
	}
	r.Low = rapid.Float64Range(1e-6, 10).Draw(t, "low")
	r.High = r.Low * rapid.Float64Range(1.01, 1e4).Draw(t, "wide")
	return r
}

// A range is read back as it is, and what is drawn lies in it and has the precision that it shows.
func TestDrawsLieInTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rangeOf(t)
		back, err := ParseRange(r.String(), r.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, back); d != "" {
			t.Fatal(d)
		}
		s := Space{{"a", r}}
		text := s.Draw(rapid.Int64().Draw(t, "seed"), rapid.IntRange(0, 1000).Draw(t, "trial"))["a"]
		if len(r.Choices) > 0 {
			if !slices.Contains(r.Choices, text) {
				t.Fatalf("%q is not in %s", text, r)
			}
			return
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x < r.Low || x > r.High || r.Whole && strings.ContainsAny(text, ".e") {
			t.Fatalf("%q is not in %s: %v", text, r, err)
		}
	})
}

// Half of the draws lie below the middle, which in the logarithm is the geometric mean; all whole numbers and choices come.
func TestDrawsFillTheRange(t *testing.T) {
	s := Space{{"flat", Range{Low: 1, High: 9}}, {"log", Range{Low: 1e-4, High: 1e-2, Log: true}}, {"whole", Range{Low: 1, High: 4, Whole: true}}, {"which", Range{Choices: []string{"x", "y", "z"}}}}
	const n = 4000
	below := map[string]int{}
	count := map[string]int{}
	for trial := range n {
		v := s.Draw(1, trial)
		for name, middle := range map[string]float64{"flat": 5, "log": 1e-3} {
			if x, _ := strconv.ParseFloat(v[name], 64); x < middle {
				below[name]++
			}
		}
		count["whole="+v["whole"]]++
		count["which="+v["which"]]++
	}
	for name, k := range below {
		if k < n*46/100 || k > n*54/100 {
			t.Errorf("%d of %d draws of %s are in the lower half", k, n, name)
		}
	}
	if len(count) != 7 {
		t.Errorf("drawn were %v", count)
	}
	for name, k := range count {
		if share := 12 * k / n; share < 2 || share > 4 { // a quarter or a third
			t.Errorf("%s came %d times of %d", name, k, n)
		}
	}
}

func TestOneMoreSettingLeavesTheOthers(t *testing.T) {
	a := Space{{"a", Range{Low: 0, High: 1}}, {"c", Range{Low: 0, High: 1}}}
	b := Space{a[0], {"b", Range{Low: 0, High: 1}}, a[1]}
	seen := map[string]bool{}
	for trial := range 50 {
		x, y := a.Draw(7, trial), b.Draw(7, trial)
		if x["a"] != y["a"] || x["c"] != y["c"] {
			t.Fatalf("trial %d: %v and %v", trial, x, y)
		}
		if x["a"] == x["c"] || seen[x["a"]] {
			t.Fatalf("trial %d repeats a value: %v", trial, x)
		}
		seen[x["a"]] = true
	}
}

var known = []Setting{
	{Name: "net.dim", Whole: true, Numbers: true}, {Name: "net.bias"},
	{Name: "net.rate", Numbers: true, Check: func(s string) error {
		if x, err := strconv.ParseFloat(s, 64); err != nil || x >= 1 {
			return fmt.Errorf("%s is not below 1", s)
		}
		return nil
	}},
}

func TestSpaceFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string
		says       []string
	}{
		{"good", "# what is searched\nnet.rate: log:1e-4..1e-2\nnet.dim: choice:16,32\nnet.bias: choice:true,false\n", "net.bias=choice:true,false net.dim=choice:16,32 net.rate=log:0.0001..0.01", nil},
		{"empty", "# nothing\n", "", []string{"empty"}},
		{"a list", "- net.dim\n", "", []string{":1:"}},
		{"no range", "net.dim: 3\nnet.rate:\n  low: 1\n", "", []string{":2:", "net.rate"}},
		{"all faults", "net.dmi: 1..2\nnet.rate: 0..1\nnet.dim: 1.5..2\nnet.bias: 0..1\n", "", []string{":1:", "net.dmi", "net.dim", ":2:", "below 1", ":3:", "whole", ":4:", "choice"}},
		{"twice", "net.dim: 1..2\nnet.dim: 1..3\n", "", []string{":2", "net.dim"}},
		{"no YAML", "net.dim: [\n", "", []string{"line 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "space.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var s Space
			entries, err := ReadSpace(path)
			if err == nil {
				s, err = MakeSpace(entries, known)
			}
			if (err == nil) != (len(c.says) == 0) {
				t.Fatal(err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "space.yaml") {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
			var got []string
			for _, p := range s {
				got = append(got, p.Name+"="+p.Range.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	if _, err := ReadSpace(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// FuzzSpace reads any text as a space file and draws from what it says.
func FuzzSpace(f *testing.F) {
	f.Add("net.rate: log:1e-4..1e-2\nnet.dim: choice:16,32\n")
	f.Add("net.dim: 1..9\n")
	f.Add("net.rate: -5..-4\n? [a]\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseSpace("f", []byte(text))
		if err != nil {
			return
		}
		s, err := MakeSpace(entries, known)
		if err != nil {
			return
		}
		v := s.Draw(1, 1)
		for _, p := range s {
			back, err := ParseRange(p.Range.String(), p.Range.Whole)
			if err != nil || !cmp.Equal(back, p.Range) || v[p.Name] == "" {
				t.Fatalf("%v: %v, %v, %q", p, back, err, v[p.Name])
			}
		}
	})
}
