package tune

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func record(trial int) Record {
	return Record{Trial: trial, Values: Values{"a": "1"}, Seed: 1, RMSE: .25, Epochs: 3, Seconds: 1, At: float64(trial)}
}

func reopen(t *testing.T, dir string) *journal {
	t.Helper()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.file.Close() })
	return j
}

// Cut anywhere, the file keeps the whole records before the cut and takes new ones.
func TestTornEndIsCutAway(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir)
	all := []Record{record(0), record(1), {Trial: 2, Values: Values{}, Seed: 1, Error: "broke\nin two"}}
	for _, r := range all {
		if err := j.add(r); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "trials.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		j := reopen(t, dir)
		n := strings.Count(string(whole[:cut]), "\n")
		if d := cmp.Diff(all[:n], append([]Record{}, j.records...)); d != "" {
			t.Fatalf("cut at %d: %s", cut, d)
		}
		if err := j.add(record(9)); err != nil {
			t.Fatal(err)
		}
		if got := reopen(t, dir); len(got.records) != n+1 || got.find(key{trial: 9, seed: 1}) == nil {
			t.Fatalf("cut at %d: %d records after one more", cut, len(got.records))
		}
	}
}

func TestForeignLinesAreErrors(t *testing.T) {
	const good = `{"trial":0,"values":{},"seed":1,"rmse":0.2,"seconds":1,"at":1}` + "\n"
	for name, text := range map[string]string{
		"no JSON": good + "x\n", "unknown field": `{"trail":0}` + "\n", "twice": good + good, "no values": `{"trial":0,"seed":1,"rmse":0.2,"seconds":1,"at":1}` + "\n",
		"negative": strings.Replace(good, `"trial":0`, `"trial":-1`, 1), "two on a line": strings.TrimSpace(good) + good, "below 0": strings.Replace(good, "0.2", "-0.2", 1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "trials.jsonl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(dir); err == nil || !strings.Contains(err.Error(), "trials.jsonl") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRecords reads any bytes as trials.jsonl: the whole lines before the stated place are records, each of them once.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"trial":0,"values":{"a":"1"},"seed":1,"rmse":0.2,"seconds":1,"at":1}` + "\n" + `{"trial":1,"val`))
	f.Add([]byte("\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, whole, err := readRecords(text)
		if whole > len(text) || whole > 0 && text[whole-1] != '\n' || strings.Count(string(text[:whole]), "\n") != len(records) {
			t.Fatalf("%d records in %d of %d bytes", len(records), whole, len(text))
		}
		if err == nil && strings.Contains(string(text[whole:]), "\n") {
			t.Fatal("a whole line was left out")
		}
		seen := map[key]bool{}
		for _, r := range records {
			if seen[r.key()] || !r.sound() {
				t.Fatalf("%+v", r)
			}
			seen[r.key()] = true
		}
	})
}
