package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/realdata"
)

// golden is what Python's tokenizers 0.23.3 says of testdata/lines.json (scripts/reference/tokenizer_golden.py).
type golden struct {
	Base         string                     `json:"base"`
	Change       map[string]json.RawMessage `json:"change"`
	IDs          [][]int32                  `json:"ids"`
	Plain        [][]int32                  `json:"plain"` // of the first lines, without special tokens
	Decoded      []string                   `json:"decoded"`
	Noise        [][]int32                  `json:"noise"`
	NoiseDecoded []string                   `json:"noise_decoded"`
}

func readJSON[T any](t testing.TB, name string) (v T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// styled returns the base tokenizer with the changes of a style.
func styled(t testing.TB, g golden) *Tokenizer {
	t.Helper()
	d := readJSON[map[string]json.RawMessage](t, "base-"+g.Base+".json")
	for k, v := range g.Change {
		if k == "ignore_merges" {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(d["model"], &m); err != nil {
				t.Fatal(err)
			}
			m[k] = v
			d["model"], _ = json.Marshal(m)
			continue
		}
		d[k] = v
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func checkGolden(t *testing.T, tok *Tokenizer, g golden) {
	t.Helper()
	lines := readJSON[[]string](t, "lines.json")
	if len(lines) < 300 || len(g.IDs) != len(lines) {
		t.Fatalf("%d lines, %d references", len(lines), len(g.IDs))
	}
	for i, line := range lines {
		got := tok.Encode(line, true)
		if !slices.Equal(got, g.IDs[i]) {
			t.Errorf("line %d %q\n got %v\nwant %v", i, line, got, g.IDs[i])
			continue
		}
		if i < len(g.Plain) && !slices.Equal(tok.Encode(line, false), g.Plain[i]) {
			t.Errorf("line %d %q without special tokens: %v, want %v", i, line, tok.Encode(line, false), g.Plain[i])
		}
		if got := tok.Decode(got, true); got != g.Decoded[i] {
			t.Errorf("line %d decoded %q, want %q", i, got, g.Decoded[i])
		}
	}
	for i, ids := range g.Noise {
		if got := tok.Decode(ids, false); got != g.NoiseDecoded[i] {
			t.Errorf("ids %v decoded %q, want %q", ids, got, g.NoiseDecoded[i])
		}
	}
}

func TestIDsEqualPython(t *testing.T) {
	for _, style := range []string{"gpt2", "gpt2-prefix", "llama3", "qwen2", "other-regex", "llama2", "mistral", "metaspace"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			g := readJSON[golden](t, "golden-"+style+".json")
			checkGolden(t, styled(t, g), g)
		})
	}
}

func TestMiniLMIDsEqualPython(t *testing.T) {
	tok, err := Load(realdata.Cached(t, "minilm", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, tok, readJSON[golden](t, "golden-minilm.json"))
	if got := strings.Join(tok.SpecialTokens(), " "); got != "[PAD] [UNK] [CLS] [SEP] [MASK]" {
		t.Errorf("special tokens %s", got)
	}
}
