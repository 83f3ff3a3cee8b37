package lmserver

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/lm"
)

// exchange is one recorded request and answer of vLLM 0.32.0; see scripts/reference/lmserver_exchanges.py.
type exchange struct {
	Case    string            `json:"case"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	RawBody *string           `json:"raw_body"`
	Status  int               `json:"status"`
	Kind    string            `json:"content_type"`
	JSON    json.RawMessage   `json:"json"`
	Text    *string           `json:"text"`
}

func exchanges(t testing.TB) []exchange {
	t.Helper()
	f, err := os.Open("testdata/exchanges.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []exchange
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e exchange
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	if len(out) < 40 {
		t.Fatalf("only %d exchanges", len(out))
	}
	return out
}

// saveAdapter writes a fresh adapter in the PEFT layout.
func saveAdapter(t testing.TB, b *lm.Bundle, dir string, seed int64) {
	t.Helper()
	tr, err := lm.NewTrainer(b, lm.LoRAConfig{Rank: 4, Alpha: 32, Seed: seed, Attn: true}, lm.TrainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Save(dir, false); err != nil {
		t.Fatal(err)
	}
}

// TestRecordedExchanges replays what was sent to vLLM, in order, and compares status, content type, error form and the shape of the
// answer; values where the request determines them.
func TestRecordedExchanges(t *testing.T) {
	b := bundle(t, "tiny-llama", 128)
	root := t.TempDir()
	saveAdapter(t, b, filepath.Join(root, "models", "lora-a"), 1)
	saveAdapter(t, b, filepath.Join(root, "models", "lora-b"), 2)
	open, _ := start(t, Options{Model: b, AdapterRoot: root})
	keyed, _ := start(t, Options{Model: b, AdapterRoot: root, APIKey: "sekrit"})
	off, _ := start(t, Options{Model: b})
	for _, e := range exchanges(t) {
		t.Run(e.Case, func(t *testing.T) {
			s := open
			switch {
			case strings.HasPrefix(e.Case, "auth_"):
				s = keyed
			case strings.HasPrefix(e.Case, "off_"):
				s = off
			}
			body := []byte(e.Body)
			if e.RawBody != nil {
				body = []byte(*e.RawBody)
			}
			body = []byte(strings.ReplaceAll(string(body), "<DIR>", root))
			got := send(t, e.Method, s.URL()+e.Path, e.Headers, body)
			if got.status != e.Status {
				t.Fatalf("status %d, recorded %d: %.300s", got.status, e.Status, got.body)
			}
			if a, b, _ := strings.Cut(got.kind, ";"); !strings.HasPrefix(e.Kind, a) {
				t.Errorf("content type %q%q, recorded %q", a, b, e.Kind)
			}
			switch {
			case e.Text != nil:
				if want := strings.ReplaceAll(*e.Text, "<DIR>", root); string(got.body) != want {
					t.Errorf("text %q, recorded %q", got.body, want)
				}
			case e.JSON != nil:
				compareJSON(t, got.body, []byte(strings.ReplaceAll(string(e.JSON), "<DIR>", root)))
			}
		})
	}
}

func compareJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	for _, diff := range shapeDiff("", g, w) {
		t.Error(diff)
	}
	gm, _ := g.(map[string]any)
	wm, _ := w.(map[string]any)
	if werr, ok := wm["error"].(map[string]any); ok {
		gerr, ok := gm["error"].(map[string]any)
		if !ok {
			t.Fatalf("error form differs: %s", got)
		}
		for _, key := range []string{"type", "param", "code"} {
			if fmt.Sprint(gerr[key]) != fmt.Sprint(werr[key]) {
				t.Errorf("error %s is %v, recorded %v", key, gerr[key], werr[key])
			}
		}
		// Texts of the validation and tensor libraries are theirs alone; the rest is word for word.
		message := fmt.Sprint(werr["message"])
		if !strings.Contains(message, "validation error") && !strings.Contains(message, "deserialized") && gerr["message"] != werr["message"] {
			t.Errorf("message %q, recorded %q", gerr["message"], message)
		}
		return
	}
	for _, key := range []string{"object", "model", "detail", "error", "version"} {
		if wm[key] != nil && fmt.Sprint(gm[key]) != fmt.Sprint(wm[key]) {
			t.Errorf("%s is %v, recorded %v", key, gm[key], wm[key])
		}
	}
}

// keyed by data: their keys are compared by the shape of any one value.
var dataKeyed = []string{".choices[].logprobs.top_logprobs[]", ".choices[].prompt_logprobs[]", ".prompt_logprobs[]"}

// shapeDiff compares types and key sets. Lists are compared by their first and last elements.
func shapeDiff(path string, got, want any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %T, recorded an object", path, got)}
		}
		if slices.Contains(dataKeyed, path) {
			for _, a := range g {
				for _, b := range w {
					return shapeDiff(path+".*", a, b)
				}
			}
			return nil
		}
		var out []string
		for key, v := range w {
			if _, ok := g[key]; !ok {
				out = append(out, fmt.Sprintf("%s.%s is missing", path, key))
				continue
			}
			out = append(out, shapeDiff(path+"."+key, g[key], v)...)
		}
		for key := range g {
			if _, ok := w[key]; !ok {
				out = append(out, fmt.Sprintf("%s.%s is not recorded", path, key))
			}
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %T, recorded a list", path, got)}
		}
		if len(g) == 0 || len(w) == 0 {
			if len(g) != len(w) {
				return []string{fmt.Sprintf("%s has %d elements, recorded %d", path, len(g), len(w))}
			}
			return nil
		}
		return append(shapeDiff(path+"[]", g[0], w[0]), shapeDiff(path+"[]", g[len(g)-1], w[len(w)-1])...)
	default:
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			return []string{fmt.Sprintf("%s is %v, recorded %v", path, got, want)}
		}
		return nil
	}
}
