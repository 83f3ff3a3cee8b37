package tokenizer

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var testSpecial = []string{"<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}

func trainTest(t testing.TB, size int) *Tokenizer {
	t.Helper()
	tok, err := TrainBPE(slices.Values(readJSON[[]string](t, "corpus.json")), TrainOptions{VocabSize: size, Special: testSpecial})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The trainer learns what Python's BpeTrainer learns from the same texts: same ids, same merges in the same order.
func TestTrainEqualsPython(t *testing.T) {
	type file struct {
		Model struct {
			Vocab  map[string]int32
			Merges []mergeSpelling
		}
	}
	want := readJSON[file](t, "base-bytes.json")
	tok := trainTest(t, len(want.Model.Vocab))
	var got file
	if err := json.Unmarshal(tok.JSON(), &got); err != nil {
		t.Fatal(err)
	}
	if len(want.Model.Merges) < 300 || !slices.Equal(got.Model.Merges, want.Model.Merges) {
		t.Errorf("%d merges differ from Python's %d", len(got.Model.Merges), len(want.Model.Merges))
	}
	if !maps.Equal(got.Model.Vocab, want.Model.Vocab) {
		t.Error("the vocabulary differs from Python's")
	}
	g := readJSON[golden](t, "golden-gpt2.json")
	checkGolden(t, tok, g)
}

func TestSaveAndLoad(t *testing.T) {
	tok := trainTest(t, 500)
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := tok.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 500 || again.VocabSize() != 500 {
		t.Errorf("sizes %d and %d, want 500", tok.VocabSize(), again.VocabSize())
	}
	if !slices.Equal(again.SpecialTokens(), testSpecial) {
		t.Errorf("special tokens %q", again.SpecialTokens())
	}
	for _, line := range readJSON[[]string](t, "lines.json") {
		if !slices.Equal(tok.Encode(line, true), again.Encode(line, true)) {
			t.Errorf("%q is encoded in two ways", line)
		}
	}
	for i, s := range testSpecial {
		id, ok := again.ID(s)
		if !ok || id != int32(i) || again.Token(id) != s || !again.Special(id) || string(again.TokenBytes(id)) != s {
			t.Errorf("special token %q has id %d (%v)", s, id, ok)
		}
	}
	if again.Token(-1) != "" || again.Token(500) != "" || again.TokenBytes(500) != nil || again.Special(500) {
		t.Error("ids outside the vocabulary have a token")
	}
}

func TestTrainRefusesBadOptions(t *testing.T) {
	for _, o := range []TrainOptions{
		{VocabSize: 255},
		{VocabSize: 257, Special: []string{"a b", "<x>"}},
		{VocabSize: 400, Special: []string{"<x>", "<x>"}},
		{VocabSize: 400, Special: []string{"a"}},
		{VocabSize: 400, Special: []string{""}},
		{VocabSize: 400, MinFrequency: -1},
	} {
		if _, err := TrainBPE(slices.Values([]string{"text"}), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestMinFrequencyAndSmallTexts(t *testing.T) {
	texts := []string{strings.Repeat("abc ", 5) + strings.Repeat("xyz ", 3)}
	tok, err := TrainBPE(slices.Values(texts), TrainOptions{VocabSize: 1000, MinFrequency: 4})
	if err != nil {
		t.Fatal(err)
	}
	// "abc" once and " abc" four times: ab, abc, Ġabc; xyz is too rare.
	if _, ok := tok.ID("Ġabc"); !ok || tok.VocabSize() != 256+3 {
		t.Errorf("%d tokens, want 259", tok.VocabSize())
	}
}
