//go:build peers

package tokenizer

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"recpie/internal/realdata"
)

// TestAgainstTransformers gives twelve thousand lines in forty scripts, emoji sequences, control characters and special tokens among them, to our tokenizer
// of each family, and wants transformers' ids (scripts/peers/tokenizer_check.py).
func TestAgainstTransformers(t *testing.T) {
	python := os.Getenv("RECPIE_PEFT_PYTHON")
	if python == "" {
		t.Skip("RECPIE_PEFT_PYTHON is not set: run scripts/peers/transformers.sh")
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("..", "..", "scripts", "peers", "tokenizer_check.py"), out, filepath.Join(realdata.Cached(t, "minilm"), "tokenizer.json"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("%s", text)
	read := func(v any, elem ...string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(append([]string{out}, elem...)...))
		if err == nil {
			err = json.Unmarshal(text, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	read(&lines, "lines.json")
	if len(lines) < 10_000 {
		t.Fatalf("%d lines", len(lines))
	}
	families, err := filepath.Glob(filepath.Join(out, "*", "tokenizer.json"))
	if err != nil || len(families) < 8 {
		t.Fatal(err, families)
	}
	for _, file := range families {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			tok, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			var want struct {
				IDs, Plain [][]int32
				Decoded    []string
			}
			read(&want, name, "ids.json")
			wrong := 0
			check := func(what, line string, same bool, got, want any) {
				if same {
					return
				}
				if wrong++; wrong <= 5 {
					t.Errorf("%s of %q: %v, want %v", what, line, got, want)
				}
			}
			for i, line := range lines {
				ids := tok.Encode(line, true)
				check("ids", line, slices.Equal(ids, want.IDs[i]), ids, want.IDs[i])
				plain := tok.Encode(line, false)
				check("ids without special tokens", line, slices.Equal(plain, want.Plain[i]), plain, want.Plain[i])
				text := tok.Decode(want.IDs[i], true)
				check("text", line, text == want.Decoded[i], text, want.Decoded[i])
			}
			if wrong > 0 {
				t.Errorf("%d of %d comparisons differ", wrong, 3*len(lines))
			}
		})
	}
}
