package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"recpie/config"
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
