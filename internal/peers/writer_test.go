//go:build peers

package peers

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/dataset"
	"recpie/internal/lm"
	"recpie/internal/tokenizer"
	"recpie/prompts"
)

// The model "writer" is a random Llama whose vocabulary holds whole explanations as single tokens. Its last layer is made so that one of
// them wins after any prompt and the end after each of them: which one depends on all of the prompt, as the answers of a real model
// do, and every answer takes two steps. Its other tokens are those of MovieLens prompts, so that a prompt has about as many tokens
// as with a real model.
const (
	writerAnswers = 128
	writerContext = 2048
)

// answers are the explanations that the writer may give. Half of them suit either polarity; the others end as dead letters.
func answers() []string {
	var all []string
	for n := range writerAnswers {
		did := "watched"
		if n%2 == 1 {
			did = "did not watch"
		}
		tastes := []string{"calm", "bright", "slow", "old", "loud", "short", "strange", "warm"}
		all = append(all, fmt.Sprintf("The user %s this movie because the user likes %s films and the movie is %s.", did, tastes[n/2%8], tastes[n/16%8]))
	}
	return all
}

func movieLens(t testing.TB) *dataset.Dataset {
	t.Helper()
	ds, _, err := dataset.Load(t.Context(), filepath.Join(need(t, "RECPIE_CACHE"), "ml-100k"), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func writeWriter(t *testing.T, dir string) {
	t.Helper()
	ds := movieLens(t)
	wording, err := prompts.NewWording(ds.Spec.Verb)
	if err != nil {
		t.Fatal(err)
	}
	texts := func(yield func(string) bool) {
		for _, it := range ds.Items {
			for range 4 { // as often as the instructions, and more
				if !yield("- title: "+it.Title+", rated 4 of 5\n- categories: "+strings.Join(it.Categories, ", ")) ||
					!yield(wording.Instruction(prompts.Positive)) || !yield(wording.Instruction(prompts.Negative)) {
					return
				}
			}
		}
	}
	special := append(lm.SpecialTokens(), answers()...)
	tok, err := tokenizer.TrainBPE(texts, tokenizer.TrainOptions{VocabSize: 4096, Special: special})
	if err != nil {
		t.Fatal(err)
	}
	m, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: writerContext, HiddenSize: 8, NumLayers: 1, NumHeads: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, err := lm.NewBundle("writer", m, tok)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "tokenizer")
	if err := b.SaveDir(other); err != nil {
		t.Fatal(err)
	}
	first := int32(len(lm.SpecialTokens()))
	rng := rand.New(rand.NewPCG(6, 0))
	writeLlama(t, dir, other, b, func(table, head []float32) {
		row := func(x []float32, id int32) []float32 { return x[int(id)*llamaHidden : (int(id)+1)*llamaHidden] }
		for id := first; id < first+writerAnswers; id++ {
			// So far out along one direction that no layer turns it away; that direction says nothing about answers, and the end is there.
			clear(row(table, id))
			row(table, id)[0] = 1e4
			copy(row(head, id), draw(rng, 1, llamaHidden))
			row(head, id)[0] = 0
		}
		clear(row(head, b.EOS))
		row(head, b.EOS)[0] = 2
	})
	showAnswers(t, filepath.Join(dir, "tokenizer.json"))
}

// showAnswers makes the answers ordinary added tokens: servers leave special ones out of their texts.
func showAnswers(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	var added []map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(all["added_tokens"], &added); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, a := range added {
		if strings.HasPrefix(a["content"].(string), "The user ") {
			a["special"] = false
			shown++
		}
	}
	if shown != writerAnswers {
		t.Fatalf("%d answers among the added tokens, want %d", shown, writerAnswers)
	}
	if all["added_tokens"], err = json.Marshal(added); err != nil {
		t.Fatal(err)
	}
	writeJSON(t, file, all)
}
