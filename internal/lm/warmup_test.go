package lm

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/tokenizer"
	"recpie/internal/tokenizer/chat"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var corpus = []string{
	"The user watched this movie because the user likes comedy and the movie is funny.",
	"The user did not watch this movie because the user dislikes horror and the movie is dark.",
	"The user watched this movie because the user loves drama and the movie is moving.",
	"The user did not watch this movie because the user avoids war and the movie is long.",
}

// spoken returns a small bundle with a tokenizer trained on the corpus.
func spoken(t testing.TB, seed int64) *Bundle {
	t.Helper()
	tok, err := tokenizer.TrainBPE(slices.Values(corpus), tokenizer.TrainOptions{VocabSize: 320, Special: SpecialTokens(), MinFrequency: 2})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewModel(Config{VocabSize: tok.VocabSize(), MaxPositions: 64, HiddenSize: 32, NumLayers: 2, NumHeads: 2}, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	b, err := NewBundle("spoken", m, tok)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lessons asks for sentence k after the prompt "k".
func lessons(t testing.TB, b *Bundle) (out []Example) {
	t.Helper()
	for k, text := range corpus {
		out = append(out, Example{Prompt: prompt(t, b, strings.Repeat("movie ", k+1)), Target: append(b.Tok.Encode(text, false), b.EOS)})
	}
	return out
}

func prompt(t testing.TB, b *Bundle, user string) []int32 {
	t.Helper()
	text, err := b.Chat.Render([]chat.Message{{Role: "system", Content: "Answer."}, {Role: "user", Content: user}}, true)
	if err != nil {
		t.Fatal(err)
	}
	return b.Tok.Encode(text, false)
}

func TestWarmupTeachesAndRepeats(t *testing.T) {
	a, b := spoken(t, 1), spoken(t, 1)
	var losses [2][]float64
	for i, m := range []*Bundle{a, b} {
		o := WarmupOptions{Steps: 120, Batch: 4, LR: 5e-3, Seed: 3, Progress: func(_, _ int, l float64) { losses[i] = append(losses[i], l) }}
		if err := Warmup(t.Context(), m, lessons(t, m), o); err != nil {
			t.Fatal(err)
		}
	}
	if first, last := losses[0][0], losses[0][119]; first < 4 || last > .1 {
		t.Errorf("loss per token went from %.3f to %.3f, want from > 4 to < .1", first, last)
	}
	if !slices.Equal(losses[0], losses[1]) || !slices.Equal(a.Model.weight("wte.weight"), b.Model.weight("wte.weight")) {
		t.Error("the same seed gave another model")
	}
	e := engine(t, a, EngineOptions{})
	for k, ex := range lessons(t, a) {
		res := generate(t, e, &GenRequest{Prompt: ex.Prompt, MaxTokens: 60, Logprobs: -1, PromptLogprobs: -1})
		if c := res.Choices[0]; c.Text != corpus[k] || c.FinishReason != "stop" || c.StopReason != nil || c.Tokens[len(c.Tokens)-1] != a.EOS {
			t.Errorf("lesson %d: %+v", k, c)
		}
	}
	// A stop string ends the text before itself, wherever its tokens end.
	res := generate(t, e, &GenRequest{Prompt: lessons(t, a)[0].Prompt, MaxTokens: 60, Stop: []string{"edy and"}, Logprobs: -1, PromptLogprobs: -1})
	if c := res.Choices[0]; c.Text != "The user watched this movie because the user likes com" || c.StopReason != "edy and" || c.FinishReason != "stop" {
		t.Errorf("stop string: %+v", c)
	}
	// Saved and loaded, the model answers the same.
	dir := filepath.Join(t.TempDir(), "m")
	if err := a.SaveDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.SaveDir(dir); err == nil {
		t.Error("a model folder was overwritten")
	}
	back, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Model.Close()
	if d := cmp.Diff(a.Model.Cfg, back.Model.Cfg, cmpopts.IgnoreUnexported(Config{}), cmpopts.IgnoreFields(Config{}, "BOS", "EOS", "PAD")); d != "" || back.EOS != a.EOS || back.BOS != a.BOS || back.PAD != a.PAD ||
		!slices.Equal(back.ExtraEOS, a.ExtraEOS) || back.ChatSource != DefaultChatTemplate {
		t.Errorf("the loaded bundle differs: %+v", back)
	}
	for _, sp := range a.Model.specs {
		if !slices.Equal(a.Model.weight(sp.name), back.Model.weight(sp.name)) {
			t.Errorf("%s differs after loading", sp.name)
		}
	}
	if !slices.Equal(prompt(t, back, "x y"), prompt(t, a, "x y")) {
		t.Error("the loaded template or tokenizer differs")
	}
}

func TestWarmupStopsWithoutATrace(t *testing.T) {
	b := spoken(t, 2)
	before := slices.Clone(b.Model.weight("wte.weight"))
	ctx, cancel := context.WithCancel(t.Context())
	err := Warmup(ctx, b, lessons(t, b), WarmupOptions{Progress: func(step, _ int, _ float64) {
		if step == 2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || !slices.Equal(before, b.Model.weight("wte.weight")) {
		t.Errorf("cancelled warm-up: %v, or the weights changed", err)
	}
	if err := Warmup(t.Context(), b, []Example{{Prompt: []int32{1}}}, WarmupOptions{}); err == nil {
		t.Error("an example without a target is accepted")
	}
}

func TestWarmupBatchesKeepNeighboursTogether(t *testing.T) {
	var ex []Example
	for k := range 30 {
		p := make([]int32, 10)
		for i := range p {
			p[i] = int32(k / 3)
		}
		ex = append(ex, Example{Prompt: append(p, int32(k%3)), Target: []int32{1}})
	}
	next := (&warmup{examples: ex, o: WarmupOptions{Batch: 6, Seed: 1}.withDefaults()}).batches()
	seen := map[int]int{}
	for range 5 {
		batch := next()
		if len(batch) != 6 {
			t.Fatalf("batch %v", batch)
		}
		for i, k := range batch {
			seen[k]++
			if i%3 > 0 && k != batch[i-1]+1 {
				t.Errorf("neighbours are apart: %v", batch)
			}
		}
	}
	if len(seen) != 30 {
		t.Errorf("one round saw %d of 30 examples", len(seen))
	}
}

func TestDefaultChatTemplate(t *testing.T) {
	tpl, err := chat.Parse(DefaultChatTemplate, TokenBOS, TokenEnd)
	if err != nil {
		t.Fatal(err)
	}
	parts := []any{map[string]any{"type": "text", "text": "a "}, map[string]any{"type": "text", "text": "<ROWS>"}, map[string]any{"type": "text", "text": " b"}}
	got, err := tpl.Render([]chat.Message{{Role: "system", Content: "s"}, {Role: "user", Content: parts}, {Role: "assistant", Content: "c"},
		{Role: "user", Content: "d"}}, true)
	want := "<|bos|><|system|>s<|end|><|user|>a <ROWS> b<|end|><|assistant|>c<|end|><|user|>d<|end|><|assistant|>"
	if err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := tpl.Render([]chat.Message{{Role: "tool", Content: "x"}}, false); err == nil {
		t.Error("an unknown role is accepted")
	}
}
