package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/realdata"
)

const tinyModel = `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`

func TestUnsupportedAndBrokenFilesAreNamed(t *testing.T) {
	for doc, want := range map[string]string{
		``:   "JSON",
		`{}`: "no model",
		`{"model":{"type":"Unigram","vocab":[["a",-1.5]]}}`:                                                                            "Unigram",
		`{"model":{"type":"WordLevel","vocab":{}}}`:                                                                                    "WordLevel",
		`{"model":{"type":"BPE","merges":[]}}`:                                                                                         "vocab",
		`{"model":{"type":"BPE","vocab":{"":0},"merges":[]}}`:                                                                          "empty token",
		`{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}`:                                                                   "two tokens",
		`{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`:                                                                        "out of range",
		`{"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}}`:                                                                "out of range",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`:                                                                    `"b"`,
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}}`:                                                                      "two parts",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","a","a"]]}}`:                                                            "two parts",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"<unk>"}}`:                                                     "<unk>",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}}`:                                                           "dropout",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}}`:                                             "end_of_word_suffix",
		`{"model":{"type":"WordPiece","vocab":{"a":0}}}`:                                                                               "unk_token",
		`{"normalizer":{"type":"Precompiled"},` + tinyModel + `}`:                                                                      "Precompiled",
		`{"normalizer":{},` + tinyModel + `}`:                                                                                          "without a type",
		`{"pre_tokenizer":{"type":"UnicodeScripts"},` + tinyModel + `}`:                                                                "UnicodeScripts",
		`{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?>"},"behavior":"Isolated"},` + tinyModel + `}`:                         "pattern",
		`{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"a"},"behavior":"Contiguous"},` + tinyModel + `}`:                         "Contiguous",
		`{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"BertPreTokenizer"}]},` + tinyModel + `}`:   "last",
		`{"decoder":{"type":"CTC"},` + tinyModel + `}`:                                                                                 "CTC",
		`{"post_processor":{"type":"Odd"},` + tinyModel + `}`:                                                                          "Odd",
		`{"post_processor":{"type":"TemplateProcessing","single":[]},` + tinyModel + `}`:                                               "no A",
		`{"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]},` + tinyModel + `}`:                        "first A",
		`{"post_processor":{"type":"BertProcessing","sep":["x",9],"cls":["a",0]},` + tinyModel + `}`:                                   "id 9",
		`{"added_tokens":[{"id":7,"content":"ab"}],` + tinyModel + `}`:                                                                 "has id 7",
		`{"added_tokens":[{"id":1,"content":"new"}],` + tinyModel + `}`:                                                                "two tokens",
		`{"normalizer":` + strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat(`]}`, 20) + `,` + tinyModel + `}`: "deeply",
	} {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s\nerror %v, want it to name the file and %q", doc, err, want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent file was loaded")
	}
}

func TestOldMergesAndNoComponents(t *testing.T) {
	tok, err := Parse([]byte(`{` + tinyModel + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("abba?ab", true); !slices.Equal(got, []int32{2, 1, 0, 2}) {
		t.Errorf("ids %v", got)
	}
	if got := tok.Decode([]int32{2, 1, -5, 99, 0}, false); got != "ab b a" {
		t.Errorf("decoded %q", got)
	}
}

// The short and the long way of merging agree with merging the lowest rank, leftmost first, one at a time.
func TestMergeOrder(t *testing.T) {
	tok := trainTest(t, 700)
	m := tok.model.(*bpe)
	naive := func(ids []int32) []int32 {
		ids = slices.Clone(ids)
		for {
			best, at := merge{rank: 1 << 30}, -1
			for i := 0; i+1 < len(ids); i++ {
				if mg, ok := m.merges[pairKey(ids[i], ids[i+1])]; ok && mg.rank < best.rank {
					best, at = mg, i
				}
			}
			if at < 0 {
				return ids
			}
			ids = slices.Replace(ids, at, at+2, best.id)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`([a-e ]|the|price|aaa|ing){1,40}`).Draw(t, "word")
		want := naive(m.symbols(word, nil))
		if got := m.split(word, nil); !slices.Equal(got, want) {
			t.Fatalf("%q: %v, want %v", word, got, want)
		}
		ids := m.symbols(word, nil)
		if got := ids[:m.mergeHeap(ids)]; !slices.Equal(got, want) {
			t.Fatalf("%q by the heap: %v, want %v", word, got, want)
		}
	})
}

// TokenBytes are what a caller needs to rebuild a text from single tokens, whatever the cuts between bytes of a character.
func TestTokenBytesConcatenateToTheText(t *testing.T) {
	tok := trainTest(t, 700)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var b []byte
		for _, id := range tok.Encode(text, false) {
			b = append(b, tok.TokenBytes(id)...)
		}
		if string(b) != text {
			t.Fatalf("%q came back as %q", text, b)
		}
	})
}

func TestConcurrentEncodeAndBoundedCache(t *testing.T) {
	tok := trainTest(t, 700)
	lines := readJSON[[]string](t, "lines.json")
	want := readJSON[golden](t, "golden-gpt2.json")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range lines {
				i = (i + g*70) % len(lines)
				if !slices.Equal(tok.Encode(lines[i], true), want.IDs[i]) {
					t.Errorf("line %d differs under concurrency", i)
				}
			}
			for i := range 30_000 {
				tok.Encode(fmt.Sprintf("w%dx%d", g, i), false)
			}
		})
	}
	wg.Wait()
	cache := tok.model.(*bpe).cache
	for i := range cache.shards {
		if n := len(cache.shards[i].ids); n > perShard {
			t.Errorf("shard %d holds %d words", i, n)
		}
	}
}

func TestLossyReplacesMaximalPieces(t *testing.T) {
	for in, want := range map[string]string{
		"\xe2\x82":         "\ufffd",
		"\xe2\x82a":        "\ufffda",
		"\xf0\x9f\x91\xff": "\ufffd\ufffd",
		"\xed\xa0\x80":     "\ufffd\ufffd\ufffd", // a surrogate
		"\xc0\x80":         "\ufffd\ufffd",
		"\xf4\x90\x80\x80": "\ufffd\ufffd\ufffd\ufffd",
		"é\x80\ufffd":      "é\ufffd\ufffd",
	} {
		if got := lossy(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// FuzzParse: whatever the file, Parse returns, and a tokenizer that it accepts works.
func FuzzParse(f *testing.F) {
	for _, base := range []string{"base-bytes.json", "base-chars.json"} {
		d := readJSON[map[string]json.RawMessage](f, base)
		d["model"] = json.RawMessage(`{"type":"BPE","unk_token":"a","byte_fallback":true,"vocab":{"a":0,"b":1,"ab":2,"Ġ":3},"merges":[["a","b"]]}`)
		d["added_tokens"] = json.RawMessage(`[{"id":4,"content":"<x>","lstrip":true,"rstrip":true,"special":true}]`)
		b, _ := json.Marshal(d)
		f.Add(b)
	}
	for _, style := range []string{"llama3", "qwen2", "other-regex", "llama2", "mistral"} {
		d := readJSON[golden](f, "golden-"+style+".json").Change
		delete(d, "ignore_merges")
		delete(d, "added_tokens")
		delete(d, "post_processor")
		d["model"] = json.RawMessage(`{"type":"BPE","ignore_merges":true,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`)
		b, _ := json.Marshal(d)
		f.Add(b)
	}
	f.Add([]byte(`{"normalizer":{"type":"BertNormalizer","lowercase":true,"clean_text":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece","prefix":"##"},"model":{"type":"WordPiece","unk_token":"u","vocab":{"u":0,"ab":1,"##c":2}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Contains(string(b), "Regex") && !strings.Contains(string(b), llama3Pattern) {
			t.Skip() // a pattern of the fuzzer may backtrack for ever; patterns come with a model that is trusted
		}
		tok, err := Parse(b)
		if err != nil {
			return
		}
		ids := tok.Encode(" abc <x> é\n漢 ab", true)
		for _, id := range ids {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Fatalf("id %d of %d", id, tok.VocabSize())
			}
		}
		_ = tok.Decode(ids, true)
	})
}

// FuzzEncodeDecode: byte-level BPE loses nothing, and every word pattern covers every text.
func FuzzEncodeDecode(f *testing.F) {
	toks := []*Tokenizer{trainTest(f, 600)}
	for _, style := range []string{"llama3", "other-regex"} {
		toks = append(toks, styled(f, readJSON[golden](f, "golden-"+style+".json")))
	}
	for _, line := range readJSON[[]string](f, "lines.json") {
		f.Add(line)
	}
	f.Add("\xff\xfe a \xe2\x82")
	f.Fuzz(func(t *testing.T, text string) {
		for i, tok := range toks {
			if i == 2 && (strings.ContainsAny(text, "<") || len(text) > 1000) {
				continue // its added tokens swallow white space
			}
			if got := tok.Decode(tok.Encode(text, false), false); got != lossy(text) {
				t.Fatalf("tokenizer %d: %q came back as %q", i, text, got)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	var sb strings.Builder
	for _, text := range readJSON[[]string](b, "corpus.json") {
		sb.WriteString(text)
		sb.WriteByte('\n')
	}
	text := sb.String()
	for _, style := range []string{"gpt2", "llama3", "qwen2", "other-regex", "llama2", "mistral"} {
		tok := styled(b, readJSON[golden](b, "golden-"+style+".json"))
		b.Run(style, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, true)
			}
		})
	}
	if tok, err := Load(realdata.Cached(b, "minilm", "tokenizer.json")); err == nil {
		b.Run("minilm", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, true)
			}
		})
	}
}
