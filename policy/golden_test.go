package policy

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestGolden runs the text cases of testdata, rewards → advantages → data per token, against the second implementation in
// scripts/reference/ppo_golden.py.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.ppo")
	if len(files) == 0 {
		t.Fatal("no golden cases")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runGolden(t, file) })
	}
}

func runGolden(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := DefaultSettings()
	var groups []Group
	var wants []map[string]string
	soft := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		kind, rest, _ := strings.Cut(sc.Text(), " ")
		kv := map[string]string{}
		for _, field := range strings.Fields(rest) {
			k, v, _ := strings.Cut(field, "=")
			kv[k] = v
		}
		switch kind {
		case "settings":
			set.Beta, set.RejectedPenalty, set.LoosePenalty = num(t, kv["beta"]), num(t, kv["rejected"]), num(t, kv["loose"])
			set.VocabSize, set.Placeholder = int32(num(t, kv["vocab"])), int32(num(t, kv["placeholder"]))
			soft = int(num(t, kv["soft"]))
		case "group":
			groups = append(groups, Group{})
		case "text":
			g := &groups[len(groups)-1]
			g.Texts = append(g.Texts, Text{
				Prompt: list[int32](t, kv["prompt"]), Tokens: list[int32](t, kv["tokens"]),
				Logprobs: list[float32](t, kv["logp"]), Ref: list[float32](t, kv["ref"]),
				Reward: num(t, kv["reward"]), Rejected: kv["flag"] == "rejected", Loose: kv["flag"] == "loose",
			})
		case "want":
			wants = append(wants, kv)
		}
	}
	var p *Projection
	if soft > 0 {
		if p, err = NewProjection(soft, 4, 3, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	o, err := NewOptimizer(set, nil, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	adv, scale := Advantages(groups, nil, set)
	near(t, "scale", scale, num(t, wants[0]["scale"]))
	examples, err := o.examples(groups, adv)
	if err != nil {
		t.Fatal(err)
	}
	if len(examples) != len(wants)-1 {
		t.Fatalf("%d examples, want %d", len(examples), len(wants)-1)
	}
	k := 0
	for g := range adv {
		for _, a := range adv[g] {
			want, d := wants[k+1], examples[k].datum
			near(t, "advantage", a, num(t, want["advantage"]))
			same(t, "tokens", d.Tokens, list[int32](t, want["tokens"]))
			same(t, "targets", d.Targets, list[int64](t, want["targets"]))
			same(t, "logprobs", d.Logprobs, list[float32](t, want["logprobs"]))
			same(t, "advantages", d.Advantages, list[float32](t, want["advantages"]))
			same(t, "positions", d.EmbedPos, list[int64](t, want["positions"]))
			k++
		}
	}
}

func num(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatalf("bad number in golden case: %v", err)
	}
	return v
}

func list[T int32 | int64 | float32](t *testing.T, s string) []T {
	t.Helper()
	if s == "-" {
		return nil
	}
	var out []T
	for _, f := range strings.Split(s, ",") {
		out = append(out, T(num(t, f)))
	}
	return out
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func same[T int32 | int64 | float32](t *testing.T, what string, got, want []T) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = math.Abs(float64(got[i])-float64(want[i])) < 1e-6
	}
	if !ok {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
