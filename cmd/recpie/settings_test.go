package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/config"
	"recpie/policy"
)

// Every number of the policy that is a setting arrives there.
func TestPolicySettingsArrive(t *testing.T) {
	c := config.Default()
	if d := cmp.Diff(policy.DefaultLimits(), ppo(&c).Limits); d != "" {
		t.Errorf("the default limits of the alarms differ: %s", d)
	}
	c.Policy = config.Policy{
		Epochs: 2, Minibatch: 3, Clip: .4, KL: .5, KLTarget: 6, FormatPenalty: 7, LearningRate: 8, ProjectionRate: 9,
		MaxRejected: .1, MaxKL: .2, MaxSamplerGap: .3, MinEntropy: .4, MinUnique: .5, MinDistinct: .6,
	}
	want := policy.DefaultSettings()
	want.Epochs, want.Minibatch, want.ClipLow, want.ClipHigh, want.Beta, want.TargetKL = 2, 3, .4, .4, .5, 6
	want.RejectedPenalty, want.LoosePenalty, want.Adapter.LR, want.Projection.LR = 7, 3.5, 8, 9
	want.Limits = policy.Limits{MaxRejected: .1, MaxKL: .2, MaxSamplerGap: .3, MinEntropy: .4, MinUnique: .5, MinDistinct: .6}
	if d := cmp.Diff(want, ppo(&c)); d != "" {
		t.Error(d)
	}
}

// The report of a whole run has exactly the protocol's names, beside a few of our own.
func TestReportHasTheNamesOfTheProtocol(t *testing.T) {
	w := unbroken(t)
	b, err := os.ReadFile(w.path("run", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	has := func(at string, v any, names ...string) {
		t.Helper()
		m, ok := v.(map[string]any)
		if !ok {
			t.Errorf("%s is %v", at, v)
		}
		for _, name := range names {
			if _, ok := m[name]; !ok {
				t.Errorf("%s has no %s", at, name)
			}
		}
	}
	has("report", r, "data", "split_digest", "n_train", "n_test", "biases", "test", "selected_round", "faithfulness", "reward", "kl", "seeds", "timings")
	has("biases", r["biases"], "rmse", "mae", "auc")
	has("faithfulness", r["faithfulness"], "blanked", "shuffled")
	test, _ := r["test"].(map[string]any)
	for _, name := range []string{"no_explanations", "untrained", "heuristic", "shuffled_refit", "numbers_refit"} {
		has(name, test[name], "rmse", "rmse_se", "mae", "auc")
	}
	rounds, _ := test["rounds"].([]any)
	count, _ := r["n_test"].(float64)
	examples := min(12, int(count))
	for _, round := range rounds {
		has("rounds", round, "rmse", "rmse_se", "mae", "auc")
	}
	for name, want := range map[string]int{"reward": 3, "kl": 4, "seeds": 1, "examples": examples} { // two rounds of two steps, one network seed
		if list, _ := r[name].([]any); len(list) != want {
			t.Errorf("%s is %v, want %d entries", name, r[name], want)
		}
	}
	if len(rounds) != 2 || len(test) != 6 {
		t.Errorf("%d rounds, %d systems", len(rounds), len(test))
	}
	ours := []string{"attention", "calibration", "cohorts", "examples", "notes", "paired", "policy", "ranking", "reward_se", "sample", "steps"}
	for name := range r {
		if !slices.Contains(ours, name) && !slices.Contains([]string{"data", "split_digest", "n_train", "n_test", "biases", "test", "selected_round", "faithfulness", "reward", "kl", "seeds", "timings"}, name) {
			t.Errorf("a name of nobody's: %s", name)
		}
	}
	page, err := os.ReadFile(w.path("run", "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string]int{"<svg": 6, `class="ex"`: examples, `class="ex sampled"`: 20, "Attention to the two explanations": 1, "Do the predictions use the text?": 1, "<script": 0, "http://": 0, "https://": 0} {
		if got := strings.Count(strings.ReplaceAll(string(page), "http://www.w3.org/", ""), what); got != n {
			t.Errorf("the page has %d × %s, want %d", got, what, n)
		}
	}
}

// The run directory keeps what was told, with times.
func TestRunKeepsALog(t *testing.T) {
	w := unbroken(t)
	b, err := os.ReadFile(w.path("run", "run.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, want := range []string{"begins or continues run", "planted: 24 users", "policy steps, round 2 done", "finished"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the log does not say %q:\n%s", want, b)
		}
	}
	if !strings.HasSuffix(lines[len(lines)-1], "Z  finished") && !strings.Contains(lines[len(lines)-1], "  finished") {
		t.Errorf("last line %q", lines[len(lines)-1])
	}
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	o := recpie(t, dir, []string{"MY_KEY=x"}, "train", "--data", "p", "--run", "r", "--set", "encoder.dir=nowhere", "--set", "lm.dir=nowhere")
	b, err = os.ReadFile(filepath.Join(dir, "r", "run.log"))
	if o.code != exitFailed || err != nil || !strings.Contains(string(b), "ended by: ") {
		t.Errorf("%d, %v, %s", o.code, err, b)
	}
}

// What a hostile data set is called does not reach the terminal as more than text.
func TestTerminalIsSafeFromData(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "12")
	f, err := os.OpenFile(filepath.Join(dir, "p", "interactions.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("u00001,i00002,nine\u202e\x1b[2J,5\n"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	const name = "evil\x1b[2J\u202e\u009b"
	if err := os.Rename(filepath.Join(dir, "p"), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	train := []string{"train", "--explanations", "off", "--data", name, "--run", "r", "--network-seeds", "1", "--set", "recommender.epochs=1"}
	for _, args := range [][]string{{"data", "check", name}, {"data", "check", name, "-o", "json"}, {"data", "check", "no\x1b[2Jwhere"}, {"train", "--data", "no\u009bwhere"}, train, {"evaluate", "r"}} {
		o := recpie(t, dir, nil, args...)
		if strings.ContainsAny(o.stdout+o.stderr, "\x1b\u009b\u202e") {
			t.Errorf("%q: %q %q", args, o.stdout, o.stderr)
		}
		if slices.Contains(args, name) && (o.code != exitOK || !strings.Contains(o.stdout, "evil") || args[0] == "data" && !strings.Contains(o.stdout, "nine")) {
			t.Errorf("%q: %d, name or broken row are not shown: %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
}

// One command without further flags serves both APIs; each can be turned off.
func TestServeSpeaksBothDialects(t *testing.T) {
	s := unbroken(t).again(t)
	status := func(url string) int {
		t.Helper()
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		return r.StatusCode
	}
	url := serve(t, s)
	for path, want := range map[string]int{"/v1/models": 200, "/api/v1/get_server_capabilities": 200} {
		if got := status(url + path); got != want {
			t.Errorf("%s: %d", path, got)
		}
	}
	load := func(url string) int {
		t.Helper()
		r, err := http.Post(url+"/v1/load_lora_adapter", "application/json", strings.NewReader(`{"lora_name":"a","lora_path":"/nowhere"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		if body["detail"] == "Not Found" {
			return -1 // there is no such route
		}
		return r.StatusCode
	}
	if code := load(url); code < 400 {
		t.Errorf("loading from nowhere: %d", code)
	}
	off := serve(t, s, "--adapter-root", "off", "--state", "off")
	if code := load(off); code != -1 {
		t.Errorf("loading, turned off: %d", code)
	}
	if got := status(off + "/api/v1/get_server_capabilities"); got != 404 {
		t.Errorf("training API, turned off: %d", got)
	}
}
