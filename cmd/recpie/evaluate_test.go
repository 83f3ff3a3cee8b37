package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/evaluate"
)

// A run writes the lists once and reports rankings, cohorts and calibration; several runs are merged.
func TestEvaluationOfRuns(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "30", "--items", "30", "--per-user", "12")
	alone := func(run string, more ...string) []string {
		return append([]string{"train", "--explanations", "off", "--data", "p", "--run", run, "--network-seeds", "2", "--set", "recommender.epochs=2",
			"--set", "evaluate.negatives=8", "--set", "evaluate.cutoffs=3, 1"}, more...)
	}
	first := must(t, dir, nil, alone("a")...)
	lists, err := os.ReadFile(filepath.Join(dir, "a", "candidates.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	o := must(t, dir, nil, "evaluate", "a", "-o", "json")
	var r evaluate.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Ranking == nil || len(r.Ranking.Draws) != 2 || r.Ranking.Negatives != 8 || r.Ranking.Draws[0].Systems[0].At[0].K != 1 || r.Ranking.Draws[0].Systems[0].At[1].K != 3 ||
		!strings.Contains(string(lists), r.Ranking.Candidates) || len(r.Cohorts) == 0 || len(r.Calibration) != 1 || r.Paired["no_explanations against biases"].Bootstrap == nil || r.Timings["candidates"] <= 0 {
		t.Errorf("%s", o.stdout)
	}
	text := must(t, dir, nil, "evaluate", "a").stdout
	for _, want := range []string{"95 % by bootstrap", "user_records", "calibration of no_explanations", "NDCG@1", "Recall@3", "popularity", "expected at random"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %s:\n%s", want, text)
		}
	}
	if !strings.Contains(first.stdout, text) {
		t.Errorf("train has shown something else:\n%s", first.stdout)
	}

	// Networks gone, the same command fits and ranks again, on the same lists, with the same result.
	if err := os.RemoveAll(filepath.Join(dir, "a", "networks")); err != nil {
		t.Fatal(err)
	}
	must(t, dir, nil, alone("a")...)
	if again := must(t, dir, nil, "evaluate", "a").stdout; again != text {
		t.Errorf("fitted again:\n%s\nbefore:\n%s", again, text)
	}

	must(t, dir, nil, alone("b", "--seed", "2", "--ranking", "off")...)
	if exists(filepath.Join(dir, "b", "candidates.jsonl")) {
		t.Error("lists without rankings")
	}
	both := must(t, dir, nil, "evaluate", "a", "b").stdout
	for _, want := range []string{"2 runs", "no_explanations less this", "less no_explanations", "band 1", "NDCG at random"} {
		if !strings.Contains(both, want) {
			t.Errorf("two runs lack %s:\n%s", want, both)
		}
	}
	if o := recpie(t, dir, nil, alone("c", "--set", "evaluate.cutoffs=five")...); o.code != exitUsage || !strings.Contains(o.stderr, "evaluate.cutoffs") {
		t.Errorf("cut-offs in words: %d, %s", o.code, o.stderr)
	}

	// Lists of others end the run before anything is fitted, with the remedy.
	if err := os.WriteFile(filepath.Join(dir, "a", "candidates.jsonl"), lists[:len(lists)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if o := recpie(t, dir, nil, alone("a")...); o.code != exitFailed || !strings.Contains(o.stderr, "candidates.jsonl: line") || !strings.Contains(o.stderr, "remove the file") {
		t.Errorf("lists cut short: %d, %s", o.code, o.stderr)
	}
}
