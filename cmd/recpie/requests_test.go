package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"recpie/internal/batchfile"
	"recpie/internal/faultproxy/fakefleet"
)

// fleet is a fake inference server whose answers depend on the requests alone, and a folder with settings that name it.
type fleet struct {
	*scene
	server *fakefleet.Server
	url    string
	free   atomic.Int64  // requests that are let through
	open   chan struct{} // closed: the others too
	fuse   atomic.Int64  // requests until something is sent on blown
	blown  chan struct{}
}

func newFleet(t *testing.T, c fakefleet.Config) *fleet {
	t.Helper()
	c.Count = true
	f := &fleet{scene: &scene{dir: t.TempDir()}, server: fakefleet.New(c), open: make(chan struct{}), blown: make(chan struct{}, 1)}
	f.free.Store(math.MaxInt64)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if f.free.Add(-1) < 0 {
				select {
				case <-f.open:
				case <-r.Context().Done():
					return
				}
			}
			if f.fuse.Add(-1) == 0 {
				f.blown <- struct{}{}
			}
		}
		f.server.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	f.url = h.URL
	f.env = []string{"RECPIE_CACHE=" + f.path("cache")}
	f.write(t, "fleet.yaml", fmt.Sprintf("data: {path: planted}\nprompts: {history: 2}\ninference: {model: tiny, max_tokens: 12, concurrency: 8, endpoints: [{url: %q}]}\n", f.url))
	return f
}

func (s *scene) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// explain runs the command on the fleet; with "-o json" its counts can be read.
func (f *fleet) explain(t *testing.T, args ...string) output {
	t.Helper()
	return recpie(t, f.dir, f.env, append([]string{"explain", "-c", "fleet.yaml", "--run", "run", "-o", "json"}, args...)...)
}

// ask is what the server says to a body directly.
func (f *fleet) ask(t *testing.T, path, body string) (status int, answer map[string]any) {
	t.Helper()
	r, err := http.Post(f.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return r.StatusCode, answer
}

// someRequests are n lines of a batch file; the fourth is longer than the server takes.
func someRequests(n int) string {
	var b strings.Builder
	for i := range n {
		body := fmt.Sprintf(`{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Question %d?"}],"max_tokens":9,"temperature":0.5,"seed":%d}`, i, i)
		path := "/v1/chat/completions"
		switch {
		case i == 3:
			body = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"` + strings.Repeat("very ", 600) + `long"}]}`
		case i == 4:
			body = `{"messages":[{"role":"user","content":"Twice"}],"n":2,"temperature":1,"seed":1,"max_tokens":5,"logprobs":true,"user":"u4"}`
		case i%5 == 0:
			path, body = "/v1/completions", fmt.Sprintf(`{ "prompt" : "Once %d" , "max_tokens":7, "model":"tiny"}`, i)
		}
		fmt.Fprintf(&b, `{"custom_id":"r%d","method":"POST","url":%q,"body":%s}`+"\n", i, path, body)
	}
	return b.String()
}

// A batch file goes in, a batch output comes out: each request once, answered as the server answers it, in their order.
func TestExplainRequests(t *testing.T) {
	const n = 150
	f := newFleet(t, fakefleet.Config{MaxModelLen: 512})
	f.write(t, "requests.jsonl", someRequests(n))
	dry := func(args ...string) map[string]any {
		t.Helper()
		args = append(args, "--input", "requests.jsonl", "--model-alias", "gpt-4o-mini", "--dry-run", "--set", "inference.price_prompt=2", "--set", "inference.price_answer=8")
		return counts(t, f.explain(t, args...))
	}
	first := dry("--rate", "30")
	if s := f.server.Stats(); s.Requests != 0 || exists(f.path("run")) {
		t.Errorf("a dry run asked %d times, or left a run directory", s.Requests)
	}
	o := f.explain(t, "--input", "requests.jsonl", "--model-alias", "gpt-4o-mini", "--chunk", "16", "--out", "answers.jsonl", "--errors", "errors.jsonl")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	c := counts(t, o)
	num := func(m map[string]any, key string) float64 { x, _ := m[key].(float64); return x }
	if num(first, "requests") != n || num(first, "seconds") != 5 || num(first, "without_max_tokens") != 1 || num(first, "answer_tokens") < num(c, "tokens") {
		t.Errorf("estimated %v for %v", first, c)
	}
	within(t, "cost", num(first, "cost"), (2*num(first, "prompt_tokens")+8*num(first, "answer_tokens"))/1e6, 1.0001)
	info, err := os.Stat(f.path("run", "batches.db"))
	if err != nil {
		t.Fatal(err)
	}
	within(t, "disk", num(first, "disk_bytes"), float64(info.Size()), 2)
	if again := dry(); num(again, "requests") != 0 || num(again, "without_max_tokens") != 0 || num(again, "done") != n {
		t.Errorf("of a finished batch: %v", again)
	}
	if other := dry("--name", "other"); num(other, "reused") != n-1 || num(other, "requests") != 1 || other["rate_by"] != "earlier batches" {
		t.Errorf("of another batch: %v", other)
	}
	if err := f.here(t, "--input", "requests.jsonl", "--model-alias", "gpt-4o-mini", "--dry-run", "--probe"); err == nil || !strings.Contains(err.Error(), "--rate") {
		t.Errorf("a probe of requests: %v", err)
	}
	if c["rows"] != float64(n) || c["done"] != float64(n-1) || c["dead"] != 1.0 || c["left"] != 0.0 || c["state"] != "done" {
		t.Errorf("%v", c)
	}
	if s := f.server.Stats(); s.Requests != n || s.Repeated != 0 {
		t.Errorf("%+v for %d requests", s, n)
	}
	answers := lines(t, f.path("answers.jsonl"))
	if len(answers) != n-1 {
		t.Fatalf("%d answers", len(answers))
	}
	for k, a := range answers {
		i := k
		if k >= 3 {
			i++
		}
		r := a["response"].(map[string]any)
		if a["custom_id"] != fmt.Sprint("r", i) || a["error"] != nil || r["status_code"] != 200.0 {
			t.Fatalf("line %d: %v", k, a)
		}
	}
	// the body is the server's own
	_, want := f.ask(t, "/v1/chat/completions", `{"model":"tiny","max_tokens":9,"temperature":0.5,"seed":1,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Question 1?"}]}`)
	got := answers[1]["response"].(map[string]any)["body"].(map[string]any)
	for _, part := range []string{"choices", "usage", "model", "object", "created"} {
		if fmt.Sprint(got[part]) != fmt.Sprint(want[part]) {
			t.Errorf("%s is %v, the server says %v", part, got[part], want[part])
		}
	}
	if twice := answers[3]["response"].(map[string]any)["body"].(map[string]any)["choices"].([]any); len(twice) != 2 || twice[1].(map[string]any)["logprobs"] == nil {
		t.Errorf("two choices with log-probabilities: %v", twice)
	}
	bad := lines(t, f.path("errors.jsonl"))
	if len(bad) != 1 || bad[0]["custom_id"] != "r3" {
		t.Fatalf("errors: %v", bad)
	}
	r := bad[0]["response"].(map[string]any)
	if e := r["body"].(map[string]any)["error"].(map[string]any); r["status_code"] != 400.0 || !strings.Contains(e["message"].(string), "maximum context length") || e["code"] != 400.0 {
		t.Errorf("refused: %v", r)
	}

	t.Run("again", func(t *testing.T) {
		before := f.read(t, "answers.jsonl")
		if o := f.explain(t, "--input", "requests.jsonl", "--model-alias", "gpt-4o-mini", "--chunk", "16", "--out", "answers.jsonl", "--errors", "errors.jsonl"); o.code != exitOK || f.server.Stats().Requests != n+1 {
			t.Errorf("%d %s, %+v", o.code, o.stderr, f.server.Stats())
		}
		if !bytes.Equal(before, f.read(t, "answers.jsonl")) {
			t.Error("the output of a finished batch changed")
		}
	})
	t.Run("reused", func(t *testing.T) { // by another batch, however the bodies are written
		f.write(t, "few.jsonl", `{"custom_id":"x","method":"POST","url":"/v1/completions","body":{"max_tokens":7,"prompt":"Once 5"}}`+"\n")
		o := f.explain(t, "--name", "few", "--input", "few.jsonl", "--out", "few-answers.jsonl")
		if c := counts(t, o); c["reused"] != 1.0 || f.server.Stats().Requests != n+1 {
			t.Errorf("%v %s", c, o.stderr)
		}
		a := lines(t, f.path("few-answers.jsonl"))
		if a[0]["custom_id"] != "x" || fmt.Sprint(a[0]["response"].(map[string]any)["body"]) != fmt.Sprint(answers[4]["response"].(map[string]any)["body"]) {
			t.Errorf("%v\n%v", a[0], answers[4])
		}
	})
	t.Run("rows", func(t *testing.T) {
		must(t, f.dir, f.env, "explain", "export", "--run", "run", "--out", "rows.parquet")
		must(t, f.dir, f.env, "explain", "export", "--run", "run", "--out", "rows.jsonl", "--out-format", "jsonl")
		rows, err := parquet.ReadFile[batchfile.Reply](f.path("rows.parquet"))
		if err != nil || len(rows) != n || rows[3].Reason == "" || rows[5].ID != "r5" || rows[5].Text == "" || rows[5].Tokens != 7 || rows[1].PromptTokens == 0 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
		for i, l := range lines(t, f.path("rows.jsonl")) {
			if l["custom_id"] != rows[i].ID || fmt.Sprint(l["text"]) != rows[i].Text && rows[i].Text != "" {
				t.Fatalf("%v, %+v", l, rows[i])
			}
		}
	})
	t.Run("purge", func(t *testing.T) {
		if c := counts(t, must(t, f.dir, f.env, "purge", "--user", "u4", "--run", "run", "-o", "json")); c["rows"] != 1.0 {
			t.Errorf("%v", c)
		}
		o := must(t, f.dir, f.env, "explain", "export", "--run", "run")
		if got := strings.Count(o.stdout, "\n"); got != n-1 || strings.Contains(o.stdout, `"r4"`) {
			t.Errorf("%d lines after the purge", got)
		}
	})
}

// All that is wrong with a batch file is said with its place, and nothing is sent.
func TestRequestsAreCheckedBeforeAnythingIsSent(t *testing.T) {
	f := newFleet(t, fakefleet.Config{})
	const ok = `{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"x"}}` + "\n"
	for _, c := range []struct{ name, lines, want string }{
		{"unknown field", ok + strings.ReplaceAll(ok, `"x"`, `"x","guided_json":{}`), "bad.jsonl:2:93: body.guided_json: is not supported"},
		{"another model", strings.ReplaceAll(ok, `"x"`, `"x","model":"gpt-4o"`), `body.model: "gpt-4o" is not the model that is asked, "tiny"`},
		{"malformed", ok + `{"custom_id":`, "bad.jsonl:2:"},
		{"twice", ok + strings.ReplaceAll(ok, "x", "y") + strings.ReplaceAll(ok, `"a"`, `"b"`), "1 lines repeat custom_ids, the first bad.jsonl:2 as bad.jsonl:1"},
		{"embeddings", strings.ReplaceAll(ok, "completions", "embeddings"), "bad.jsonl:1:40: url"},
		{"a pair among them", ok + `{"user_id":"u","item_id":"i"}`, "bad.jsonl:2: custom_id: is missing"},
	} {
		f.write(t, "bad.jsonl", c.lines)
		if err := f.here(t, "--name", "bad", "--input", "bad.jsonl"); err == nil || !errors.As(err, new(*usageError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
	f.write(t, "good.jsonl", ok)
	for _, args := range [][]string{{"--order", "random"}, {"--out-format", "csv"}, {"--out", "x.parquet", "--errors", "e.jsonl"}, {"--progress", "loud"}} {
		if err := f.here(t, append(args, "--input", "good.jsonl")...); err == nil || !errors.As(err, new(*usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if s := f.server.Stats(); s.Requests != 0 {
		t.Errorf("%d requests were sent", s.Requests)
	}
}

// here runs explain in this process, which spares the start of another.
func (f *fleet) here(t *testing.T, args ...string) error {
	t.Helper()
	t.Chdir(f.dir)
	for _, e := range f.env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	root := newRoot()
	root.SetArgs(append([]string{"explain", "-c", "fleet.yaml", "--run", "run"}, args...))
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	return root.ExecuteContext(t.Context())
}

// Rows come out while others are worked on, each once; the progress says how fast and how long; the export follows from elsewhere.
func TestCompletedOrderStreams(t *testing.T) {
	const n = 60
	f := newFleet(t, fakefleet.Config{})
	f.free.Store(n / 2)
	f.write(t, "requests.jsonl", strings.ReplaceAll(someRequests(n), "gpt-4o-mini", "tiny"))
	args := []string{"explain", "-c", "fleet.yaml", "--run", "run", "--input", "requests.jsonl", "--chunk", "4", "--progress", "json", "--order", "completed", "--out", "stream.jsonl"}
	cmd := child(t.Context(), f.dir, f.env, args...)
	errs, err := os.Create(f.path("progress.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	progress := func() string {
		b, err := os.ReadFile(errs.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	rated := func() (rates int, last map[string]any) { // lines that tell a rate and the time left
		for line := range strings.Lines(progress()) {
			if json.Unmarshal([]byte(line), &last) == nil && last["rows_per_second"] != 0.0 && last["seconds_left"] != 0.0 {
				rates++
			}
		}
		return rates, last
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	early, open := false, false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case err := <-ended:
			if done = true; err != nil {
				t.Fatalf("%v\n%s", err, progress())
			}
		case <-tick.C:
			if b, err := os.ReadFile(f.path("stream.jsonl")); err == nil && !early {
				k := bytes.Count(b, []byte("\n"))
				early = k > 0 && k < n
			}
			if early && !exists(f.path("second")) { // a second process is refused by name, and a third may look on
				f.write(t, "second", "")
				o := recpie(t, f.dir, f.env, "explain", "-c", "fleet.yaml", "--run", "other", "--db", "run/batches.db", "--name", "run", "--input", "requests.jsonl")
				if want := fmt.Sprintf("run/batches.db is in use by process %d", cmd.Process.Pid); o.code != exitFailed || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "use PostgreSQL for more than one process") {
					t.Errorf("a second process: exit code %d\n%swant %s", o.code, o.stderr, want)
				}
				if s := must(t, f.dir, f.env, "explain", "status", "--run", "run"); !strings.Contains(s.stdout, "rows a second") || !strings.Contains(s.stdout, "batch run is running") {
					t.Errorf("status meanwhile: %s", s.stdout)
				}
				if o := recpie(t, f.dir, f.env, "explain", "export", "--run", "run"); o.code != exitFailed || !strings.Contains(o.stderr, "--order completed") {
					t.Errorf("an ordered export meanwhile: exit code %d\n%s", o.code, o.stderr)
				}
			}
			if rates, _ := rated(); rates > 0 && exists(f.path("second")) && !open { // it told how it goes: the rest may be answered
				open = true
				close(f.open)
			}
		}
	}
	if !early || !exists(f.path("second")) {
		t.Error("no row was in the file before the end")
	}
	seen := map[any]bool{}
	for _, l := range lines(t, f.path("stream.jsonl")) {
		if seen[l["custom_id"]] {
			t.Errorf("%v is there twice", l["custom_id"])
		}
		seen[l["custom_id"]] = true
	}
	if len(seen) != n {
		t.Errorf("%d rows of %d", len(seen), n)
	}
	for line := range strings.Lines(progress()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("progress: %q", line)
		}
	}
	rates, last := rated()
	if rates == 0 || last["done"].(float64)+last["dead"].(float64) != n || last["left"] != 0.0 {
		t.Errorf("%d lines with a rate and the time left; the last is %v", rates, last)
	}
	follow := must(t, f.dir, f.env, "explain", "export", "--run", "run", "--order", "completed")
	if got := strings.Count(follow.stdout, "\n"); got != n {
		t.Errorf("%d rows followed", got)
	}
}
