package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"recpie/internal/faultproxy/fakefleet"
)

// speaking is a fleet whose server answers questions for terms and profiles in whole words, and a folder of hotels with reviews.
type speaking struct {
	*fleet
	mu    sync.Mutex
	asked map[string]int // questions for terms and profiles
}

func newSpeaking(t *testing.T) *speaking {
	t.Helper()
	s := &speaking{fleet: newFleet(t, fakefleet.Config{Service: 15 * time.Millisecond}), asked: map[string]int{}}
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(h.Close)
	s.write(t, "speaking.yaml", fmt.Sprintf("data: {path: hotels, sample_pairs: 0}\nprompts: {history: 2}\ninference: {model: tiny, max_tokens: 12, concurrency: 4, endpoints: [{url: %q}]}\n", h.URL))
	if err := os.Mkdir(s.path("hotels"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	rows := csv.NewWriter(&b)
	_ = rows.Write([]string{"user_id", "item_id", "rating", "timestamp", "review"})
	words := []string{"service", "breakfast", "location", "bathroom", "staff", "garden"}
	for u := range 12 {
		for k := range 8 {
			i := (3*u + k) % 10
			text := fmt.Sprintf("The %s was great. We had a terrible %s, %d times.", words[(u+i)%6], words[i%6], u*8+k)
			_ = rows.Write([]string{fmt.Sprintf("u%02d", u), fmt.Sprintf("i%02d", i), fmt.Sprint(1 + (u+k)%5), fmt.Sprint(1000 + k), text})
		}
	}
	rows.Flush()
	s.write(t, "hotels/interactions.csv", b.String())
	items := "item_id,title,categories\n"
	for i := range 10 {
		items += fmt.Sprintf("i%02d,Hotel %d,Boston\n", i, i)
	}
	s.write(t, "hotels/items.csv", items)
	s.write(t, "hotels/dataset.yaml", "domain: hotel\nverb: stayed at this hotel\nrating: {min: 1, max: 5}\ninteractions: interactions.csv\nitems: items.csv\nitem_inputs: [title, categories]\nreview: review\n")
	return s
}

// serve puts words of its own into the fake server's answers.
func (s *speaking) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var ask struct {
		Messages []struct {
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	say := ""
	if r.Method == http.MethodPost && json.Unmarshal(body, &ask) == nil && len(ask.Messages) > 0 {
		text := string(ask.Messages[0].Content)
		switch {
		case strings.Contains(text, "Name up to three aspects"):
			if say = "Terms: Staff, Front Desk"; strings.Contains(text, "garden") {
				say = "none"
			}
		case strings.Contains(text, "Do not invent ratings"):
			say = "A hotel in Boston that suits families. It has 5 stars."
		}
		if say != "" {
			s.mu.Lock()
			s.asked[text]++
			s.mu.Unlock()
		}
	}
	if say == "" {
		s.server.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	s.server.ServeHTTP(rec, r)
	var answer map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err == nil && rec.Code == http.StatusOK {
		answer["choices"].([]any)[0].(map[string]any)["message"].(map[string]any)["content"] = say
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(rec.Code)
	_ = json.NewEncoder(w).Encode(answer)
}

// questions is how many distinct questions were asked since the last call; none may have been asked twice.
func (s *speaking) questions(t *testing.T) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.asked)
	for text, k := range s.asked {
		if k != 1 {
			t.Errorf("asked %d times: %s", k, text)
		}
	}
	s.asked = map[string]int{}
	return n
}

func (s *speaking) data(t *testing.T, args ...string) output {
	t.Helper()
	return recpie(t, s.dir, s.env, append([]string{"data"}, args...)...)
}

func TestDataAspects(t *testing.T) {
	s := newSpeaking(t)
	o := s.data(t, "aspects", "hotels", "--out", "aspects.jsonl", "-o", "json")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	sum, rows := counts(t, o), lines(t, s.path("aspects.jsonl"))
	if float64(len(rows)) != sum["records"] || sum["quads"].(float64) < float64(len(rows)) || sum["aspects"] != 6.0 || sum["good"].(float64) == 0 || sum["bad"].(float64) == 0 {
		t.Errorf("%d lines, %v", len(rows), sum)
	}
	for _, r := range rows {
		for _, q := range r["quads"].([]any) {
			q := q.(map[string]any)
			if (q["opinion"] == "great") != (q["polarity"] == 1.0) || !strings.Contains(q["sentence"].(string), q["aspect"].(string)) {
				t.Errorf("%v", q)
			}
		}
		if len(r["terms"].([]any)) == 0 || len(r["terms"].([]any)) > 3 || len(r["item_terms"].([]any)) > 3 {
			t.Errorf("%v", r)
		}
	}
	again := s.data(t, "aspects", "hotels", "--out", "again.jsonl")
	if again.code != exitOK || !bytes.Equal(s.read(t, "aspects.jsonl"), s.read(t, "again.jsonl")) || !strings.Contains(again.stdout, "garden") {
		t.Errorf("a second time: %s%s", again.stdout, again.stderr)
	}
	if o := s.data(t, "aspects", "hotels", "--out", "-", "-o", "json"); o.code != exitOK || o.stdout != string(s.read(t, "aspects.jsonl")) || !strings.Contains(o.stderr, `"quads"`) {
		t.Errorf("standard output: %s", o.stderr)
	}
	must(t, s.dir, s.env, "data", "planted", "--out", "planted")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"aspects", "planted"}, exitFailed, "dataset.yaml"},
		{[]string{"aspects", "nowhere"}, exitFailed, "nowhere"},
		{[]string{"aspects", "hotels", "--by", "magic"}, exitUsage, "rules or lm"},
		{[]string{"aspects", "hotels", "--of", "users"}, exitUsage, "records or items"},
		{[]string{"aspects", "hotels", "--of", "items"}, exitUsage, "--by lm"},
		{[]string{"aspects", "hotels", "--by", "lm", "-c", "speaking.yaml", "--set", "prompts.redact=true"}, exitUsage, "prompts.redact"},
		{[]string{"profiles", "hotels"}, exitUsage, "profiles.force"},
	} {
		if o := s.data(t, c.args...); o.code != c.code || !strings.Contains(o.stderr, c.says) {
			t.Errorf("%v: %d %s", c.args, o.code, o.stderr)
		}
	}
}

func TestDataAspectsByModel(t *testing.T) {
	s := newSpeaking(t)
	by := func(args ...string) output {
		return s.data(t, append([]string{"aspects", "hotels", "--by", "lm", "-c", "speaking.yaml", "-o", "json"}, args...)...)
	}
	// what a killed process has stored is not asked again
	env := s.env
	for _, place := range []string{"ask-before-commit:1", "ask-after-commit:1"} {
		s.env = append(slices.Clone(env), "RECPIE_FAILPOINT="+place)
		if o := by("--out", "terms.jsonl"); o.code == exitOK || exists(s.path("terms.jsonl")) || s.questions(t) == 0 {
			t.Fatalf("killed at %s: %d %s", place, o.code, o.stdout)
		}
	}
	s.env = env
	o := by("--out", "terms.jsonl")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	sum, rows, asked := counts(t, o), lines(t, s.path("terms.jsonl")), s.questions(t)
	if float64(asked) != sum["new"] || float64(len(rows)) != sum["lines"] || asked == 0 || asked >= len(rows) {
		t.Errorf("%d lines, %d questions after others were answered before, %v", len(rows), asked, sum)
	}
	none := 0
	for _, r := range rows {
		switch terms := fmt.Sprint(r["terms"]); {
		case terms == "[staff front desk]" && r["why"] == nil:
		case terms == "[]" && r["why"] == "no_terms":
			none++
		default:
			t.Errorf("%v", r)
		}
	}
	if none == 0 || sum["rejected"].(map[string]any)["no_terms"] != float64(none) {
		t.Errorf("%d without terms, %v", none, sum)
	}
	if again := by("--out", "again.jsonl"); again.code != exitOK || s.questions(t) != 0 || counts(t, again)["new"] != 0.0 || !bytes.Equal(s.read(t, "terms.jsonl"), s.read(t, "again.jsonl")) {
		t.Errorf("a second time: %s%s", again.stdout, again.stderr)
	}
	items := by("--of", "items", "--out", "items.jsonl")
	if items.code != exitOK || s.questions(t) != 10 || len(lines(t, s.path("items.jsonl"))) != 10 {
		t.Errorf("of items: %s%s", items.stdout, items.stderr)
	}
}

// Profiles are written once for all commands, and stand in the prompts of a batch.
func TestDataProfiles(t *testing.T) {
	s := newSpeaking(t)
	o := s.data(t, "profiles", "hotels", "-c", "speaking.yaml", "--out", "profiles.jsonl", "-o", "json")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	sum := counts(t, o)
	// both sides may ask for the same: the server is asked once
	if asked := s.questions(t); sum["items"] != 10.0 || sum["questions"] != sum["new"] || sum["new"].(float64) < float64(asked) || asked < 10 {
		t.Errorf("%d questions, %v", asked, sum)
	}
	whole := 0
	for _, p := range lines(t, s.path("profiles.jsonl")) {
		if p["profile"] != "A hotel in Boston that suits families." || len(p["terms"].([]any)) > 3 {
			t.Errorf("%v", p)
		}
		if p["whole"] == true && p["side"] == "final" {
			whole++
		}
	}
	if whole != 10 {
		t.Errorf("%d items have a profile for pairs nobody rated", whole)
	}
	if again := s.data(t, "profiles", "hotels", "-c", "speaking.yaml", "-o", "json"); again.code != exitOK || s.questions(t) != 0 || counts(t, again)["new"] != 0.0 {
		t.Errorf("a second time: %s%s", again.stdout, again.stderr)
	}
	explain := func(run string, args ...string) output {
		return recpie(t, s.dir, s.env, append([]string{"explain", "-c", "speaking.yaml", "--run", run, "-o", "json"}, args...)...)
	}
	if o := explain("with", "--set", "profiles.augment=true"); o.code != exitOK || s.questions(t) != 0 || !strings.Contains(o.stderr, "10 items") {
		t.Errorf("a batch asks for profiles that are there: %s", o.stderr)
	}
	if o := explain("without"); o.code != exitOK || strings.Contains(o.stderr, "profiles") {
		t.Errorf("a batch without profiles: %s", o.stderr)
	}
	if bytes.Equal(s.read(t, "with/explanations.jsonl"), s.read(t, "without/explanations.jsonl")) {
		t.Error("prompts with and without profiles get the same answers")
	}

	// a worker on another machine, which has none of them, writes what was written here
	there := explain("there", "--set", "profiles.augment=true", "--db", "there.db", "--plan-only")
	if there.code != exitOK || s.questions(t) != 0 {
		t.Fatal(there.stderr)
	}
	other := &scene{dir: t.TempDir()}
	other.env = []string{"RECPIE_CACHE=" + other.path("cache")}
	if err := os.Rename(s.path("there.db"), other.path("there.db")); err != nil {
		t.Fatal(err)
	}
	work(t, other, nil, "there.db", "there")
	if n := s.questions(t); n != 0 {
		t.Errorf("the worker asked for %d profiles", n)
	}
	if err := os.Rename(other.path("there.db"), s.path("there.db")); err != nil {
		t.Fatal(err)
	}
	if o := explain("there", "--set", "profiles.augment=true", "--db", "there.db"); o.code != exitOK || !bytes.Equal(s.read(t, "there/explanations.jsonl"), s.read(t, "with/explanations.jsonl")) {
		t.Errorf("the worker's rows differ: %s", o.stderr)
	}
}

// A run keeps the profiles that it began with: it continues with them where the cache is gone. The small warmed-up model writes none
// unless it must.
func TestTrainKeepsItsProfiles(t *testing.T) {
	s := unbroken(t).again(t)
	with := append(slices.Clone(train), "--rounds", "0", "--set", "profiles.augment=true")
	if o := must(t, s.dir, s.env, append(slices.Clone(with), "--run", "off")...); !strings.Contains(o.stderr, "profiles.force") || exists(s.path("off", profilesFile)) {
		t.Errorf("the small model was asked: %s", o.stderr)
	}
	with = append(with, "--set", "profiles.force=true")
	if o := recpie(t, s.dir, append(slices.Clone(s.env), "RECPIE_FAILPOINT=explain-after-commit:1"), with...); o.code != -1 {
		t.Fatalf("was not killed: %d %s", o.code, o.stderr)
	}
	kept := s.read(t, "run/"+profilesFile)
	if !bytes.Contains(kept, []byte(`"profile":"`)) {
		t.Fatalf("the run keeps %q", kept)
	}
	if err := os.Remove(s.path("cache", "answers.db")); err != nil {
		t.Fatal(err)
	}
	o := must(t, s.dir, s.env, with...)
	if strings.Contains(o.stderr, "asked now") || !bytes.Equal(s.read(t, "run/"+profilesFile), kept) {
		t.Errorf("a continued run asks for its profiles again: %s", o.stderr)
	}
	must(t, s.dir, s.env, "predict", "--run", "run")
	s.write(t, "run/"+profilesFile, `{"side":"train","item_id":"nowhere","fold":0,"profile":"x"}`)
	if o := recpie(t, s.dir, s.env, "predict", "--run", "run"); o.code != exitFailed || !strings.Contains(o.stderr, "nowhere") {
		t.Errorf("profiles of other data: %d %s", o.code, o.stderr)
	}
}
