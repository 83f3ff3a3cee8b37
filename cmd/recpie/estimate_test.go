package main

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"recpie/config"
	"recpie/internal/progress"
)

// within fails unless two figures agree within a factor.
func within(t *testing.T, what string, got, want, factor float64) {
	t.Helper()
	if !(got <= factor*want && want <= factor*got) {
		t.Errorf("%s: estimated %.4g, the truth is %.4g: not within a factor of %g", what, got, want, factor)
	}
}

// gauge reads a counter of a server, summed over its labels.
func gauge(t *testing.T, addr, name string) (sum float64) {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(string(body), -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// What a dry run says is what the run then takes: requests to the row, tokens of prompts within a tenth, of answers within a third once
// some were seen, the rate of a probe within a factor of five on a machine that does other work too, the disk within a half.
func TestEstimateIsNearTheTruth(t *testing.T) {
	s := unbroken(t).again(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := model(t, s)
	machine(t, s, addr, dir, s.path("shared"))
	settings := strings.Replace(tiny, "inference: {concurrency: 1,", fmt.Sprintf("training: {frozen: true}\ninference: {concurrency: 4, cache_size: 0, model: %s, price_prompt: 2, price_answer: 8, endpoints: [{url: \"http://%s\", tokenizer: %q}],",
		filepath.Base(dir), addr, filepath.Join(dir, "tokenizer.json")), 1)
	settings = strings.Replace(settings, "token_budget: 160", "token_budget: 190", 1) // of three letters each, where the server's tokenizer is not asked
	if err := os.WriteFile(s.path("c.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	explain := func(args ...string) map[string]any {
		t.Helper()
		return counts(t, must(t, s.dir, s.env, append([]string{"explain", "-c", "c.yaml", "--run", "run", "-o", "json"}, args...)...))
	}
	num := func(m map[string]any, key string) float64 { x, _ := m[key].(float64); return x }

	first := explain("--dry-run", "--rate", "10")
	if exists(s.path("run")) {
		t.Error("a dry run leaves a run directory")
	}
	if first["tokens_by"] != "the model's tokenizer" || first["rate_by"] != "--rate" || math.Abs(num(first, "seconds")-num(first, "requests")/10) > .1 || num(first, "reused")+num(first, "done") != 0 {
		t.Errorf("%v", first)
	}
	within(t, "cost", num(first, "cost_at_most"), (2*num(first, "prompt_tokens")+8*num(first, "answer_tokens_at_most"))/1e6, 1.0001)
	probe := explain("--dry-run", "--probe")
	asked, prompted := gauge(t, addr, "vllm:request_success_total"), gauge(t, addr, "vllm:prompt_tokens_total")
	if asked == 0 || probe["rate_by"] != "probe" || exists(s.path("run")) {
		t.Fatalf("the probe asked %g times: %v", asked, probe)
	}
	done := explain("--chunk", "8")
	requests := gauge(t, addr, "vllm:request_success_total") - asked
	if e := num(first, "requests"); num(first, "rows") != num(done, "rows") || e != requests && e != requests-1 { // a canary may be among them
		t.Errorf("%g rows and %g requests were estimated, there were %g and %g", num(first, "rows"), num(first, "requests"), num(done, "rows"), requests)
	}
	within(t, "tokens of prompts", num(first, "prompt_tokens"), gauge(t, addr, "vllm:prompt_tokens_total")-prompted, 1.1)
	within(t, "tokens of answers", num(probe, "answer_tokens"), num(done, "tokens"), 1.33)
	if num(first, "answer_tokens_at_most") < num(done, "tokens") {
		t.Errorf("%v tokens of answers, at most %v were estimated", done["tokens"], first["answer_tokens_at_most"])
	}
	size := 0.0
	for _, end := range []string{"", "-wal"} {
		if info, err := os.Stat(s.path("run", "batches.db"+end)); err == nil {
			size += float64(info.Size())
		}
	}
	within(t, "disk", num(probe, "disk_bytes"), size, 1.5)

	// the batch is done: nothing is left; under another name all of it is reused, but what has no sentence is asked for again
	if again := explain("--dry-run"); num(again, "requests") != 0 || num(again, "done") != num(done, "rows") {
		t.Errorf("of a finished batch: %v", again)
	}
	other := explain("--dry-run", "--name", "other")
	if num(other, "reused") != num(done, "done") || num(other, "reused")+num(other, "requests")+num(other, "without_prompt") != num(done, "rows") {
		t.Errorf("%v, of a batch with %v", other, done)
	}
	if clash := explain("--dry-run", "--set", "inference.max_tokens=9"); !strings.Contains(fmt.Sprint(clash["note"]), "--name") || num(clash, "done")+num(clash, "reused") != 0 {
		t.Errorf("another batch of the name: %v", clash)
	}

	// pairs that nobody rated: what is known of answers and rate comes from the batch above
	var in strings.Builder
	for k := range 20 {
		fmt.Fprintf(&in, `{"user_id":"u%05d","item_id":"i%05d"}`+"\n", 1+k%10, (7*k)%30)
	}
	if err := os.WriteFile(s.path("pairs.jsonl"), []byte(in.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	pairs := []string{"--input", "pairs.jsonl", "--name", "pairs", "--out", "pairs-out.jsonl", "--set", "inference.price_prompt=3"} // prices may change
	next := explain(append(pairs, "--dry-run")...)
	if next["rate_by"] != "earlier batches" || !strings.HasPrefix(fmt.Sprint(next["answer_tokens_by"]), "mean of ") {
		t.Errorf("%v", next)
	}
	within(t, "rate of the probe", num(probe, "rate"), num(next, "rate"), 5)
	truth := explain(pairs...)
	within(t, "tokens of answers of other pairs", num(next, "answer_tokens"), num(truth, "tokens"), 1.33)
	if num(next, "reused") != num(truth, "reused") {
		t.Errorf("%v rows were said to be reused, %v were", next["reused"], truth["reused"])
	}
}

// A large batch is estimated from a sample, whose shares are those of the whole.
func TestEstimateOfManyRows(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "30", "--items", "40", "--per-user", "12")
	c := config.Default()
	c.Run, c.Data.Path, c.Data.SamplePairs = filepath.Join(dir, "run"), filepath.Join(dir, "p"), 0
	c.Inference.Model, c.Inference.Endpoints = "m", []config.Endpoint{{URL: "http://127.0.0.1:9"}}
	c.Prompts.TokenBudget = 186 // some prompts do not fit
	c.Inference.RequestRate, c.Inference.TokenRate = 50, 1000
	t.Setenv("RECPIE_DATABASE_URL", "")
	task, err := newTask(t.Context(), &c, func() (string, error) { return c.Data.Path, nil }, source{})
	if err != nil {
		t.Fatal(err)
	}
	f := explaining{}
	small, err := f.foresee(t.Context(), task, progress.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	times := exactRows/task.asks.rows() + 1
	rows, one := task.asks.rows(), task.asks.recs
	for range times - 1 {
		task.asks.recs = append(task.asks.recs, one...)
	}
	f = explaining{}
	large, err := f.foresee(t.Context(), task, progress.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if small.Looked != rows || large.Looked != sampledRows || large.Rows != times*rows {
		t.Errorf("looked at %d of %d and %d of %d", small.Looked, small.Rows, large.Looked, large.Rows)
	}
	n := float64(times)
	within(t, "requests", large.Requests, n*small.Requests, 1.05)
	within(t, "tokens", large.PromptTokens, n*small.PromptTokens, 1.05)
	within(t, "disk", large.DiskBytes, n*small.DiskBytes, 2)
	if small.NoPrompt > 0 {
		within(t, "rows without a prompt", large.NoPrompt, n*small.NoPrompt, 1.3)
	}
	if large.RateBy != "inference.token_rate" || large.TokensBy != "4 letters a token" || large.Cost != 0 {
		t.Errorf("%+v", large)
	}
	within(t, "seconds", large.Seconds, (large.PromptTokens+large.AnswerTokens)/1000, 1.01)
	var text strings.Builder
	large.write(&text)
	for _, want := range []string{"about, from 5000 of them", "4 letters a token", "at most", "inference.token_rate", "cost      unknown"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &text)
		}
	}
}
