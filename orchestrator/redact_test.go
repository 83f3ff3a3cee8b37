package orchestrator

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"recpie/internal/dataset"
	"recpie/prompts"
)

// promptWork prepares a data set for prompts only.
func promptWork(t *testing.T, ds *dataset.Dataset, redact bool) *Workspace {
	t.Helper()
	s := prompts.DefaultSettings()
	s.Redact = redact
	w, err := PrepareData(t.Context(), ds, nil, DataSettings{Seed: 1, Prompts: s, TextOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func promptOf(t *testing.T, w *Workspace, rec int32, pol prompts.Polarity) string {
	t.Helper()
	side := w.SideOf(rec)
	p, err := side.Renderer.Render(rec, pol)
	if err != nil {
		t.Fatal(err)
	}
	return side.Profile(rec) + "\n" + p.Text // on TGI the profile stands before the prompt
}

// wordsOf splits a text into words as a reader hears them: without signs and case.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
}

// Whatever is written into the reviews, redacted prompts stay as they are, to the byte; others do not.
func TestRedactedPromptsDoNotReadReviews(t *testing.T) {
	ds := reviewed(t)
	all := indexes(len(ds.Records))
	texts := make([]string, len(all))
	for i := range texts {
		texts[i] = []string{"The zither and the oboe were loud. I remember the oboe.", "", "The staircase was steep, the cellar was damp. The cellar!"}[i%3]
	}
	other, err := ds.WithColumn("review", all, texts)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, redact := range []bool{false, true} {
		a, b := promptWork(t, ds, redact), promptWork(t, other, redact)
		for _, rec := range a.Pairs() {
			for _, pol := range prompts.Polarities {
				x, y := promptOf(t, a, rec, pol), promptOf(t, b, rec, pol)
				switch {
				case redact && x != y:
					t.Fatalf("record %d: other reviews, another prompt:\n%s\n%s", rec, x, y)
				case !redact && x != y:
					moved++
				}
				if redact {
					for _, word := range []string{"service", "breakfast", "bathroom", "staff", "garden"} { // every one of them is in some review
						if strings.Contains(x, word) {
							t.Fatalf("record %d: %q of a review is in the prompt:\n%s", rec, word, x)
						}
					}
				}
			}
		}
	}
	if moved == 0 {
		t.Error("reviews do not show in prompts at all: the test shows nothing")
	}
}

// On real data no run of more than five words of any review reaches a redacted prompt, but where an item's own description or
// our instruction has the same words (a title, a common phrase), and none of more than ten at all.
func TestRedactedPromptsOfRealData(t *testing.T) {
	const n, never = 5, 10
	root := os.Getenv("RECPIE_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "data")
	}
	for _, name := range []string{"amazon_musical_instruments_5", "tripadvisor_lara_u3", "rottentomatoes_critics_rated5"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, name)
			if _, err := os.Stat(dir); err != nil {
				t.Skipf("%s is not here: %v", name, err)
			}
			ds, _, err := dataset.Load(t.Context(), dir, dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			seed := maphash.MakeSeed()
			runs := func(text string, length int, each func(h uint64, run []string)) {
				words := wordsOf(text)
				hashes := make([]uint64, len(words))
				for i, w := range words {
					hashes[i] = maphash.String(seed, w)
				}
				for i := 0; i+length <= len(words); i++ {
					h := uint64(0)
					for _, x := range hashes[i : i+length] {
						h = h*0x9e3779b97f4a7c15 + x
					}
					each(h, words[i:i+length])
				}
			}
			w := promptWork(t, ds, true)
			ours := []string{w.Train.Renderer.Wording().Instruction(prompts.Positive), w.Train.Renderer.Wording().Instruction(prompts.Negative)}
			described := map[uint64]bool{}
			for _, it := range ds.Items {
				for _, text := range append(append(ours, it.Title, it.Profile), it.Categories...) {
					runs(text, n+1, func(h uint64, _ []string) { described[h] = true })
				}
				ours = nil
			}
			shown, long := map[uint64]bool{}, map[uint64]bool{}
			pairs := w.Pairs()
			for i := 0; i < len(pairs); i += max(1, len(pairs)/800) {
				for _, pol := range prompts.Polarities {
					text := promptOf(t, w, pairs[i], pol)
					runs(text, n+1, func(h uint64, _ []string) { shown[h] = true })
					runs(text, never+1, func(h uint64, _ []string) { long[h] = true })
				}
			}
			reviews, coincidences := 0, 0
			for text := range reviewsOf(t, dir) {
				reviews++
				runs(text, n+1, func(h uint64, run []string) {
					switch {
					case !shown[h]:
					case described[h]:
						coincidences++
					default:
						t.Errorf("a prompt holds %q of a review", run)
					}
				})
				runs(text, never+1, func(h uint64, run []string) {
					if long[h] {
						t.Errorf("a prompt holds %q of a review", run)
					}
				})
			}
			if reviews < len(ds.Records)/2 || len(shown) < 200 {
				t.Errorf("%d reviews of %d records and %d runs of words: too few to tell", reviews, len(ds.Records), len(shown))
			}
			t.Logf("%d reviews, %d runs of %d words in prompts, %d of them in a description and a review", reviews, len(shown), n+1, coincidences)
		})
	}
}

// reviewsOf yields every review of a data folder, those of test records too, which no view shows.
func reviewsOf(t *testing.T, dir string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(filepath.Join(dir, "interactions.csv.gz"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		in := csv.NewReader(z)
		at := -1
		for {
			row, err := in.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if at < 0 {
				for i, name := range row {
					if name == "review" {
						at = i
					}
				}
				continue
			}
			if row[at] != "" && !yield(row[at]) {
				return
			}
		}
	}
}
