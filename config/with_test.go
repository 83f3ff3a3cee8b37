package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWith(t *testing.T) {
	c := Default()
	got, err := c.With(map[string]string{"recommender.dim": "16", "recommender.learning_rate": "1e-4", "recommender.consumer": "false", "inference.timeout": "5s", "run": "runs/x"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Recommender.Dim, want.Recommender.LR, want.Recommender.Consumer, want.Run = 16, 1e-4, false, "runs/x"
	want.Inference.Timeout = 5e9
	if d := cmp.Diff(want, *got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Default(), c); d != "" {
		t.Errorf("the settings themselves have changed: %s", d)
	}
	for name, text := range map[string]string{"recommender.dmi": "1", "recommender.dim": "many", "recommender.dropout": "1.5", "inference.endpoints": "[]", "recommender.epochs": "0"} {
		if _, err := c.With(map[string]string{name: text}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, text, err)
		}
	}
}

// What Text says of a setting is what With takes.
func TestTextComesBack(t *testing.T) {
	c := Default()
	all := map[string]string{}
	for _, k := range Keys() {
		if k.Kind != "list" {
			all[k.Name()] = c.Text(k.Name())
		}
	}
	got, err := Config{}.With(all)
	if err != nil {
		t.Fatal(err)
	}
	got.Inference.Endpoints = c.Inference.Endpoints
	if d := cmp.Diff(c, *got); d != "" {
		t.Error(d)
	}
	if len(all) < 50 || c.Text("nothing") != "" || !slices.Contains(slices.Collect(maps.Keys(all)), "recommender.id_l2") {
		t.Errorf("%d settings", len(all))
	}
}
