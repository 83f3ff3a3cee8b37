package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"recpie/internal/faultproxy/fakefleet"
)

// planted gives the fleet's folder a data set of 24 users and 30 items.
func (f *fleet) planted(t *testing.T) {
	t.Helper()
	must(t, f.dir, f.env, "data", "planted", "--out", "planted", "--seed", "3", "--users", "24", "--items", "30", "--per-user", "12")
}

// somePairs are the first n pairs of users and items of the planted data; most of them nobody rated.
func somePairs(n int) string {
	var b strings.Builder
	for k := range n {
		fmt.Fprintf(&b, `{"custom_id":"p%d","user_id":"u%05d","item_id":"i%05d"}`+"\n", k, k/30, k%30)
	}
	return b.String()
}

// Pairs come out as lines of an OpenAI batch output on request, also those of which one sentence is wanted.
func TestPairsAsBatchOutput(t *testing.T) {
	f := newFleet(t, fakefleet.Config{})
	f.planted(t)
	text := strings.Split(somePairs(12), "\n")
	text[3] = strings.Replace(text[3], "{", `{"polarity":"negative",`, 1)
	text[5] = strings.Replace(text[5], `"custom_id":"p5",`, "", 1)
	f.write(t, "pairs.jsonl", strings.Join(text, "\n"))
	if o := f.explain(t, "--input", "pairs.jsonl", "--out", "answers.jsonl", "--out-format", "openai"); o.code != exitOK {
		t.Fatal(o.stderr)
	}
	rows := map[string]map[string]any{}
	for _, r := range lines(t, f.path("answers.jsonl")) {
		rows[r["custom_id"].(string)] = r
	}
	if len(rows) != 23 || rows["p3/positive"] != nil || rows["u00000/i00005/negative"] == nil {
		t.Fatalf("%d lines: %v", len(rows), rows)
	}
	o := must(t, f.dir, f.env, "explain", "export", "--run", "run")
	sentences, all := 0, 0
	for d := json.NewDecoder(strings.NewReader(o.stdout)); d.More(); {
		var s map[string]any
		if err := d.Decode(&s); err != nil {
			t.Fatal(err)
		}
		all++
		id, _ := s["custom_id"].(string)
		if id == "" {
			id = fmt.Sprint(s["user_id"], "/", s["item_id"])
		}
		a := rows[fmt.Sprint(id, "/", s["polarity"])]
		if s["reason"] != nil {
			if a["response"] != nil || a["error"].(map[string]any)["message"] != s["reason"] || a["error"].(map[string]any)["code"] != noSentence {
				t.Errorf("%v as %v", s, a)
			}
			continue
		}
		sentences++
		body := a["response"].(map[string]any)["body"].(map[string]any)
		if body["choices"].([]any)[0].(map[string]any)["message"].(map[string]any)["content"] != s["text"] || body["usage"].(map[string]any)["completion_tokens"] != s["tokens"] {
			t.Errorf("%v as %v", s, a)
		}
	}
	if all != 23 || sentences == 0 {
		t.Errorf("%d sentences of %d rows", sentences, all)
	}
}
