package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/dataset/catalog"
	"recpie/internal/dataset/stats"
)

func TestDataGet(t *testing.T) {
	dir := t.TempDir()
	list := must(t, dir, nil, "data", "get").stdout
	for _, name := range catalog.Names() {
		if !strings.Contains(list, name) {
			t.Errorf("%s is not listed:\n%s", name, list)
		}
	}
	var set catalog.Set
	if err := json.Unmarshal([]byte(must(t, dir, nil, "data", "get", "yelp", "-o", "json").stdout), &set); err != nil || set.Format != "yelp" {
		t.Errorf("%v, %+v", err, set)
	}
	if o := recpie(t, dir, nil, "data", "get", "yelb"); o.code != exitUsage || !strings.Contains(o.stderr, "one of: ml-100k") {
		t.Errorf("code %d, %s", o.code, o.stderr)
	}
}

func TestDataStats(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	var s stats.Stats
	if err := json.Unmarshal([]byte(must(t, dir, nil, "data", "stats", "p", "-o", "json", "--html", "p.html").stdout), &s); err != nil {
		t.Fatal(err)
	}
	if s.Records != 100 || s.Users != 10 || s.PerUser.Min != 10 || s.Split.Test != 20 || s.Seen.Records != 80 {
		t.Errorf("%+v", s)
	}
	page, err := os.ReadFile(filepath.Join(dir, "p.html"))
	if err != nil || !strings.Contains(string(page), "<svg") {
		t.Errorf("page of %d bytes, %v", len(page), err)
	}
	if o := recpie(t, dir, nil, "data", "stats", "nowhere"); o.code != exitFailed || !strings.Contains(o.stderr, "nowhere") {
		t.Errorf("code %d, %s", o.code, o.stderr)
	}
}
