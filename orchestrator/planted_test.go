package orchestrator

import (
	"context"
	"os"
	"testing"

	"recpie/internal/dataset/planted"
	"recpie/internal/realdata"
	"recpie/prompts"
	"recpie/recommender"
	"recpie/recommender/encoder"
)

func openMiniLM(t *testing.T) *encoder.Encoder {
	t.Helper()
	e, err := encoder.Open(realdata.Cached(t, "minilm"), t.TempDir(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// When the sentences name the one attribute that the user cares about, the error must fall by 30% or more, and sentences that name a
// random one must not help. The sentences are an oracle's: they know what no system could. Users have four training records each, as in
// the specification (a quarter of twenty): from twenty the network finds most of it out by itself.
func TestPlantedReasonsAreExploited(t *testing.T) {
	plantedReasons(t, planted.Config{Seed: 1, Users: 600, PerUser: 7}, .7)
}

// From twenty ratings the network finds most of the reason by itself; being told still helps.
func TestPlantedReasonsOfTwenty(t *testing.T) {
	if os.Getenv("RECPIE_LONG") == "" {
		t.Skip("RECPIE_LONG is not set")
	}
	plantedReasons(t, planted.Config{Seed: 1}, .85)
}

// plantedReasons fails unless the right reason brings the error to atMost of what it is without.
func plantedReasons(t *testing.T, cfg planted.Config, atMost float64) {
	t.Helper()
	ctx := context.Background()
	d, err := planted.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w, err := PrepareData(ctx, d.Dataset, nil, DataSettings{MinRecords: 5, Seed: 1, Prompts: prompts.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	lab := &Lab{Work: w, Settings: recommender.DefaultSettings(len(w.Split.Train)), Seeds: []int64{1}}
	enc := openMiniLM(t)
	say := func(about func(user, item int32) int32) *Explained {
		recs := w.Pairs()
		e := &Explained{Recs: recs, Text: [2][]string{make([]string, len(recs)), make([]string, len(recs))}}
		for i, r := range recs {
			rec := d.Dataset.Records[r]
			g := about(rec.User, rec.Item)
			name := d.Attributes[g]
			e.Text[prompts.Positive][i], e.Text[prompts.Negative][i] = "The user visited this restaurant because nothing about it stands out.", "The user did not visit this restaurant because nothing about it stands out."
			if d.Has(rec.Item, g) {
				e.Text[prompts.Positive][i] = "The user visited this restaurant because the user wants " + name + " and the restaurant has it."
			} else {
				e.Text[prompts.Negative][i] = "The user did not visit this restaurant because the user wants " + name + " and the restaurant lacks it."
			}
		}
		return e
	}
	judge := func(name string, e *Explained) *Result {
		var expl *recommender.Explanations
		if e != nil {
			if expl, err = vectorise(ctx, enc, d.Dataset, e); err != nil {
				t.Fatal(err)
			}
		}
		res, err := lab.Judge(ctx, name, expl)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	none := judge("none", nil)
	right := judge("right", say(func(user, _ int32) int32 { return d.Cares[user] }))
	random := judge("random", say(func(user, item int32) int32 { return (user*7 + item*13) % int32(len(d.Attributes)) }))
	t.Logf("RMSE: none %.4f, right reason %.4f, random reason %.4f", none.System.RMSE, right.System.RMSE, random.System.RMSE)
	if right.System.RMSE > atMost*none.System.RMSE {
		t.Errorf("the right reason lowers RMSE from %.4f to %.4f: not to %.2f of it", none.System.RMSE, right.System.RMSE, atMost)
	}
	if random.System.RMSE < .95*none.System.RMSE {
		t.Errorf("a random reason lowers RMSE from %.4f to %.4f", none.System.RMSE, random.System.RMSE)
	}
	if a := attention(right.Alpha, d.Dataset.Labels(w.Split.Test)); a.HighGap <= a.LowGap {
		t.Errorf("attention to the positive sentence, less that to the negative: %.3f for high ratings, %.3f for low ones", a.HighGap, a.LowGap)
	}
}
