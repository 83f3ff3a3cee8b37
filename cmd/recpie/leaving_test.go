package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"recpie/config"
	"recpie/internal/faultproxy/fakefleet"
)

// nowhere resolves one name to a public address.
type nowhere struct{}

func (nowhere) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "api.example.com" {
		return []netip.Addr{netip.MustParseAddr("203.0.113.5")}, nil
	}
	return nil, errors.New("no such host")
}

func TestLeaving(t *testing.T) {
	base := config.Default()
	with := func(change func(c *config.Config)) *config.Config {
		c := base
		c.Inference.Endpoints = []config.Endpoint{{URL: "http://10.0.0.1:8000"}, {URL: "https://api.example.com"}, {URL: "https://api.example.com/two"}}
		change(&c)
		return &c
	}
	for name, c := range map[string]struct {
		c         *config.Config
		soft      bool
		has, lack []string // none: no warning
	}{
		"embedded": {c: &base},
		"private":  {c: with(func(c *config.Config) { c.Inference.Endpoints = c.Inference.Endpoints[:1] })},
		"public":   {c: with(func(*config.Config) {}), has: []string{"warning: api.example.com is", "words out of reviews", "opinions of other", "taste", "--redact"}, lack: []string{"embeddings", "10.0.0.1", "api.example.com, api"}},
		"soft":     {c: with(func(*config.Config) {}), soft: true, has: []string{"embeddings of users"}},
		"redacted": {c: with(func(c *config.Config) { c.Prompts.Redact = true }), has: []string{"api.example.com", "titles and ratings", "left out"}, lack: []string{"opinions", "words out of", "--redact"}},
		"bare":     {c: with(func(c *config.Config) { c.Prompts.Opinions, c.Prompts.Taste = false, false }), has: []string{"words out of reviews"}, lack: []string{"opinions of", "taste"}},
		"training": {c: with(func(c *config.Config) { c.Inference.Endpoints, c.Training.URL = nil, "https://train.example.net" }), has: []string{"train.example.net"}},
		"frozen": {c: with(func(c *config.Config) {
			c.Inference.Endpoints, c.Training.URL, c.Training.Frozen = nil, "https://train.example.net", true
		})},
	} {
		got := leaving(t.Context(), c.c, c.soft, nowhere{})
		if len(c.has) == 0 && got != "" {
			t.Errorf("%s: %s", name, got)
		}
		for _, want := range c.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: it does not say %q: %s", name, want, got)
			}
		}
		for _, not := range c.lack {
			if strings.Contains(got, not) {
				t.Errorf("%s: it says %q: %s", name, not, got)
			}
		}
	}
}

// The warning comes first, once, and with --progress json as a line of JSON.
func TestWarningBeforeAnythingLeaves(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	settings := "data: {path: p}\ntraining: {frozen: true}\ninference: {model: m, endpoints: [{url: \"http://192.0.2.1:9\"}]}\n" // an address for documentation: nobody is there
	if err := os.WriteFile(dir+"/c.yaml", []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"train", "--run", "r1"}, {"explain", "--run", "r2"}, {"explain", "--run", "r3", "--dry-run"}, {"explain", "--run", "r4", "--progress", "json"}} {
		o := recpie(t, dir, []string{"http_proxy=http://127.0.0.1:1"}, append(args, "-c", "c.yaml")...)
		at := strings.Index(o.stderr, "warning: 192.0.2.1 is not in a private network")
		if at < 0 || strings.Count(o.stderr, "192.0.2.1 is not") != 1 {
			t.Errorf("%v: %s", args, o.stderr)
			continue
		}
		if fault := strings.Index(o.stderr, "inference server"); fault >= 0 && fault < at {
			t.Errorf("%v: something was sent before the warning: %s", args, o.stderr)
		}
		if json := strings.Contains(o.stderr, `{"warning":"`); json != (args[len(args)-1] == "json") {
			t.Errorf("%v: %s", args, o.stderr)
		}
	}
}

// The whole way of a batch: with --redact no word that stands in reviews alone is in what a server gets, without it there is.
func TestRedactedBatch(t *testing.T) {
	dir := t.TempDir()
	nouns := []string{"zither", "staircase", "marmalade", "lantern", "orchard", "gazebo"} // in reviews, and nowhere else
	var rows, items strings.Builder
	rows.WriteString("user_id,item_id,rating,timestamp,review\n")
	items.WriteString("item_id,title,profile\n")
	for i := range 8 {
		fmt.Fprintf(&items, "h%d,House %d,A quiet house. Write to owner%d@mail.example.org\n", i, i, i)
	}
	for k := range 96 {
		fmt.Fprintf(&rows, "guest-%02d,h%d,%d,%d,\"The %s was loud and the %s was old. I liked the %s.\"\n", k/8, k%8, 1+(k*k/3)%5, 1000+k, nouns[k%6], nouns[(k/6)%6], nouns[(k/8+k)%6])
	}
	for name, text := range map[string]string{
		"dataset.yaml":     "domain: hotel\nverb: stayed at this hotel\nrating: {min: 1, max: 5}\ninteractions: interactions.csv\nitems: items.csv\nitem_inputs: [title, profile]\nreview: review\n",
		"interactions.csv": rows.String(), "items.csv": items.String(),
	} {
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fleet := fakefleet.New(fakefleet.Config{Model: "m"})
	var mu sync.Mutex
	var got strings.Builder
	ts := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		got.Write(body)
		mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		fleet.ServeHTTP(rw, r)
	}))
	defer ts.Close()
	settings := fmt.Sprintf("data: {path: data, sample_pairs: 0}\ntraining: {frozen: true}\ninference: {model: m, endpoints: [{url: %q}]}\n", ts.URL)
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	sent := func(args ...string) string {
		t.Helper()
		got.Reset()
		o := must(t, dir, nil, append([]string{"explain", "-c", "c.yaml", "--db", "all.db", "-o", "json"}, args...)...)
		if c := counts(t, o); c["reused"] != 0.0 || c["rows"].(float64) < 100 {
			t.Errorf("%v: %v", args, c)
		}
		return got.String()
	}
	open, shut := sent("--run", "open"), sent("--run", "shut", "--redact")
	shown := 0
	for _, n := range nouns {
		if strings.Contains(open, n) {
			shown++
		}
		if strings.Contains(shut, n) {
			t.Errorf("%q of a review was sent", n)
		}
	}
	for _, not := range []string{"what others found", "praised", "@mail.example.org", "owner3", "guest-"} {
		if strings.Contains(shut, not) {
			t.Errorf("%q was sent", not)
		}
	}
	if shown == 0 || !strings.Contains(open, "owner3@mail.example.org") || !strings.Contains(shut, "A quiet house. Write to (removed)") || !strings.Contains(shut, "rated") {
		t.Errorf("%d words of reviews in open prompts: the test shows nothing\n%.3000s\n%.3000s", shown, open, shut)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "shut", "config.yaml")); err != nil || !strings.Contains(string(text), "redact: true") {
		t.Errorf("the run does not say that it is redacted (%v)", err)
	}
}
