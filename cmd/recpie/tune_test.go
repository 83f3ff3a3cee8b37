package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/config"
	"recpie/orchestrator/tune"
)

// searching is the command line of a search of seconds.
var searching = []string{"tune", "--explanations", "off", "--data", "p", "--run", "r", "--trials", "6", "--parallel", "2", "--set", "recommender.epochs=2", "--set", "recommender.dim=8",
	"--space", "recommender.dropout=0..0.5", "--space", "recommender.learning_rate=log:1e-3..1e-1", "--space", "recommender.dim=choice:8,16,9", "-o", "json"}

func tuneScene(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "30", "--items", "30", "--per-user", "12")
	return dir
}

// found reads a result without its times, and how many lines the journal has.
func found(t *testing.T, dir, stdout string) (tune.Result, int) {
	t.Helper()
	var res tune.Result
	if err := json.Unmarshal([]byte(stdout), &res); err != nil {
		t.Fatal(err)
	}
	res.Seconds, res.Best.Seconds, res.Best.At, res.Own.Seconds, res.Own.At = 0, 0, 0, 0, 0
	for i := range res.Trials {
		res.Trials[i].Seconds, res.Trials[i].At = 0, 0
	}
	b, err := os.ReadFile(filepath.Join(dir, "r", "trials.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return res, bytes.Count(b, []byte("\n"))
}

func TestTune(t *testing.T) {
	dir := tuneScene(t)
	want, lines := found(t, dir, must(t, dir, nil, searching...).stdout)
	if len(want.Trials) != 6 || want.Data != "p" || want.Own.Values["recommender.dim"] != "8" || want.Own.Confirmed == 0 {
		t.Fatalf("%+v", want)
	}
	odd := 0 // dim 9 is no multiple of the heads: such trials fail and are told
	for _, r := range want.Trials {
		if (r.Values["recommender.dim"] == "9") != (r.Error != "") {
			t.Errorf("%+v", r)
		}
		if r.Error != "" {
			odd++
		}
	}
	if odd == 0 || want.Failed != odd || lines < 6+2 {
		t.Errorf("%d of %d failed trials are recorded; %d lines", want.Failed, odd, lines)
	}
	for _, name := range []string{"tune.html", "tune.json", "best.yaml", "run.log"} {
		if !exists(filepath.Join(dir, "r", name)) {
			t.Errorf("no %s", name)
		}
	}
	c, err := config.Load(config.Sources{File: filepath.Join(dir, "r", "best.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want.Best.Values {
		if c.Text(name) != text {
			t.Errorf("best.yaml has %s %s, want %s", name, c.Text(name), text)
		}
	}
	o := must(t, dir, nil, "train", "-c", filepath.Join("r", "best.yaml"), "--network-seeds", "1")
	if !strings.Contains(o.stdout, "no_explanations") || !exists(filepath.Join(dir, "r", "train", "report.html")) {
		t.Errorf("%s", o.stdout)
	}
	// More trials go on behind the finished ones.
	more, _ := found(t, dir, must(t, dir, nil, append(searching, "--trials", "8")...).stdout)
	if len(more.Trials) != 8 {
		t.Errorf("%d trials", len(more.Trials))
	}
	for name, args := range map[string][]string{"space": {"--space", "recommender.id_l2=0..1"}, "seed": {"--seed", "2"}, "settings": {"--set", "recommender.patience=1"}} {
		if o := recpie(t, dir, nil, append(append([]string{}, searching...), args...)...); o.code != exitFailed || !strings.Contains(o.stderr, "--run") {
			t.Errorf("another %s: exit code %d: %s", name, o.code, o.stderr)
		}
	}
}

// Killed at any record and continued by the same command, a search ends as an unbroken one, and nothing that counted is measured again.
func TestKilledSearchContinues(t *testing.T) {
	dir := tuneScene(t)
	want, lines := found(t, dir, must(t, dir, nil, searching...).stdout)
	for k, f := range []string{"tune-before-record:3", "tune-after-record:7", "tune-before-record:1", "tune-after-record:1", "tune-after-record:5", "tune-before-record:9", "tune-after-record:12"} {
		t.Run(f, func(t *testing.T) {
			if k >= 2 {
				full(t)
			}
			t.Parallel()
			dir := tuneScene(t)
			o := recpie(t, dir, []string{"RECPIE_FAILPOINT=" + f}, searching...)
			if o.code != -1 {
				t.Fatalf("was not killed: exit code %d\n%s", o.code, o.stderr)
			}
			kept, err := os.ReadFile(filepath.Join(dir, "r", "trials.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			got, n := found(t, dir, must(t, dir, nil, searching...).stdout)
			now, err := os.ReadFile(filepath.Join(dir, "r", "trials.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || n != lines {
				t.Errorf("%d lines, want %d: %+v, want %+v", n, lines, got, want)
			}
			if !bytes.HasPrefix(now, kept[:bytes.LastIndexByte(kept, '\n')+1]) {
				t.Error("what was recorded has changed")
			}
		})
	}
}
