package recommender

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"recpie/internal/dataset"
	"recpie/recommender/bias"
)

func TestSeedsReproduceBitEqual(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	in := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: tiny(), Seed: 9, Expl: noise(ds, 4)}
	a, _ := mustFit(t, in)
	b, _ := mustFit(t, in)
	in.Seed = 10
	c, _ := mustFit(t, in)
	pa, pb, pc := mustPredict(t, a, split.Test, in.Expl), mustPredict(t, b, split.Test, in.Expl), mustPredict(t, c, split.Test, in.Expl)
	if !slices.Equal(pa.Y, pb.Y) || !slices.Equal(pa.Attention, pb.Attention) {
		t.Error("one seed gave two networks")
	}
	if slices.Equal(pa.Y, pc.Y) {
		t.Error("two seeds gave one network")
	}
}

// Training starts at the biases: a network of one tiny step still predicts them.
func TestStartsAtTheBiases(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	set := tiny()
	set.LR = 1e-9
	data := newData(t, split.TrainView(ds))
	m, _ := mustFit(t, Input{Data: data, Train: split.Train, Val: split.Val, Settings: set, Seed: 1, Epochs: 1})
	if got, want := mustPredict(t, m, split.Test, nil).Y, data.Bias.Predict(ds, split.Test); rmseOf(got, want) > 1e-6 {
		t.Errorf("predictions are %v away from the biases", rmseOf(got, want))
	}
}

// An explanation that names the label is used.
func TestExplanationWithTheLabelIsExploited(t *testing.T) {
	ds, split := world(t, 50, 40, 20)
	all := make([]int32, len(ds.Records))
	ratings := make([]float64, len(all))
	coin := rand.New(rand.NewPCG(1, 1))
	for r := range all { // ratings that nothing but the explanation can tell
		all[r], ratings[r] = int32(r), float64(2+2*coin.IntN(2))
	}
	ds, err := ds.WithRatings(all, ratings)
	if err != nil {
		t.Fatal(err)
	}
	expl := &Explanations{Pos: make([]int32, len(all)), Neg: make([]int32, len(all)), Vectors: &Vectors{Dim: 12}}
	rng := rand.New(rand.NewPCG(6, 6))
	for r, y := range ds.Labels(all) {
		v := make([]float32, 12)
		for k := range v {
			v[k] = float32(rng.NormFloat64()) * .3
		}
		if y > .5 {
			v[5]++
		}
		expl.Pos[r], expl.Neg[r] = int32(r), -1
		expl.Vectors.Data = append(expl.Vectors.Data, v...)
	}
	set := tiny()
	set.Dim, set.MaxEpochs, set.LR, set.Batch = 16, 12, 3e-3, 32
	in := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: set, Seed: 2}
	none, _ := mustFit(t, in)
	in.Expl = expl
	with, _ := mustFit(t, in)
	y := ds.Labels(split.Test)
	a, b := rmseOf(mustPredict(t, none, split.Test, nil).Y, y), rmseOf(mustPredict(t, with, split.Test, expl).Y, y)
	t.Logf("test RMSE %.4f without, %.4f with explanations", a, b)
	if b > .7*a {
		t.Errorf("test RMSE %.4f without, %.4f with an explanation that names the label", a, b)
	}
}

// Labels shuffled within each user leave nothing to learn: the network is no better than the biases by more than noise.
func TestShuffledLabelsGiveNoSkill(t *testing.T) {
	ds, split := world(t, 150, 60, 24)
	both := append(append([]int32{}, split.Train...), split.Val...)
	both = append(both, split.Test...)
	slices.Sort(both)
	rng := rand.New(rand.NewPCG(4, 4))
	ratings := make([]float64, len(both))
	for k, y := range ds.Labels(both) {
		ratings[k] = ds.Spec.Rating(float64(y))
	}
	for from := 0; from < len(both); {
		to := from
		for to < len(both) && ds.Records[both[to]].User == ds.Records[both[from]].User {
			to++
		}
		part := ratings[from:to]
		rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		from = to
	}
	shuffled, err := ds.WithRatings(both, ratings)
	if err != nil {
		t.Fatal(err)
	}
	view := split.TrainView(shuffled)
	reg, err := bias.Choose(view, split.Val)
	if err != nil {
		t.Fatal(err)
	}
	data, err := NewData(t.Context(), view, reg, 1)
	if err != nil {
		t.Fatal(err)
	}
	set := DefaultSettings(len(split.Train))
	set.Dim, set.Hidden, set.MaxEpochs = 16, [2]int{32, 16}, 12
	m, log := mustFit(t, Input{Data: data, Train: split.Train, Val: split.Val, Settings: set, Seed: 3})
	y := shuffled.Labels(split.Test)
	p := mustPredict(t, m, split.Test, nil).Y
	base := data.Bias.Predict(shuffled, split.Test)
	diff, se := pairedDifference(shuffled, split.Test, y, p, base)
	t.Logf("best epoch %d, test RMSE %.4f, biases %.4f, paired difference %+.5f (SE %.5f)", log.Best, rmseOf(p, y), rmseOf(base, y), diff, se)
	if diff < -3*se {
		t.Errorf("skill on shuffled labels: %+.5f (SE %.5f)", diff, se)
	}
	// The same network with the true labels has skill, so that the check above can fail.
	data = newData(t, split.TrainView(ds))
	m, _ = mustFit(t, Input{Data: data, Train: split.Train, Val: split.Val, Settings: set, Seed: 3})
	y = ds.Labels(split.Test)
	diff, se = pairedDifference(ds, split.Test, y, mustPredict(t, m, split.Test, nil).Y, data.Bias.Predict(ds, split.Test))
	if diff > -3*se {
		t.Errorf("no skill on the true labels: %+.5f (SE %.5f)", diff, se)
	}
}

func TestTestOutcomesChangeNoPrediction(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	ratings := make([]float64, len(split.Test))
	for k := range ratings {
		ratings[k] = float64(1 + k%5)
	}
	changed, err := ds.WithRatings(split.Test, ratings)
	if err != nil {
		t.Fatal(err)
	}
	var got [2][]float32
	for k, d := range [...]*Data{newData(t, split.FinalView(ds)), newData(t, split.FinalView(changed))} {
		m, _ := mustFit(t, Input{Data: d, Train: split.Train, Settings: tiny(), Seed: 1, Epochs: 2})
		got[k] = mustPredict(t, m, split.Test, nil).Y
	}
	if !slices.Equal(got[0], got[1]) {
		t.Error("predictions moved with test outcomes")
	}
}

func TestCheckpoint(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	for _, expl := range []*Explanations{nil, noise(ds, 4)} {
		data := newData(t, split.TrainView(ds))
		m, _ := mustFit(t, Input{Data: data, Train: split.Train, Val: split.Val, Settings: tiny(), Seed: 1, Expl: expl})
		dir := filepath.Join(t.TempDir(), "model")
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		if err := m.Save(dir); err == nil {
			t.Error("a checkpoint was overwritten")
		}
		back, err := LoadModel(dir, newData(t, split.TrainView(ds)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(mustPredict(t, m, split.Test, expl).Y, mustPredict(t, back, split.Test, expl).Y) {
			t.Error("the loaded model predicts something else")
		}
		back.Close()
		if _, err := LoadModel(dir, newData(t, split.FinalView(ds))); err == nil {
			t.Error("loaded for another view")
		}
		path := filepath.Join(dir, weightsFile)
		weights, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		weights[len(weights)-1] ^= 1
		if err := os.WriteFile(path, weights, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadModel(dir, data); err == nil {
			t.Error("loaded damaged weights")
		}
	}
}

func TestWarmStart(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	in := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: tiny(), Seed: 1, Expl: noise(ds, 4), Epochs: 2}
	first, _ := mustFit(t, in)
	in.Start, in.Settings.LR, in.Epochs = first, 1e-9, 1
	second, _ := mustFit(t, in)
	a, b := mustPredict(t, first, split.Test, in.Expl).Y, mustPredict(t, second, split.Test, in.Expl).Y
	if rmseOf(a, b) > 1e-6 {
		t.Error("the start's weights were not taken over")
	}
	in.Expl = nil
	if _, _, err := Fit(t.Context(), in); err == nil {
		t.Error("a start with other inputs was accepted")
	}
	table, dim := first.Consumers()
	if dim != 8 || len(table) != dim*len(ds.Users) {
		t.Errorf("E_c has %d numbers of dimension %d", len(table), dim)
	}
}

// Each record is judged by the model that was not trained on it: changing its label moves the others' model only.
func TestCrossFit(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	data := newData(t, split.TrainView(ds))
	expl := noise(ds, 4)
	in := Input{Data: data, Train: split.Train, Settings: tiny(), Seed: 1, Expl: expl, Epochs: 2}
	c, err := CrossFit(t.Context(), in, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Predict(t.Context(), split.Train, expl)
	if err != nil {
		t.Fatal(err)
	}
	sizes := [2]int{}
	for k, r := range split.Train {
		sizes[c.part(r)]++
		if one := mustPredict(t, c.Unseen(r), []int32{r}, expl).Y[0]; one-p.Y[k] > 1e-4 || p.Y[k]-one > 1e-4 {
			t.Fatalf("record %d: %v by its unseen model, %v by Predict", r, one, p.Y[k])
		}
	}
	if min(sizes[0], sizes[1]) < len(split.Train)/3 {
		t.Errorf("parts of %v records", sizes)
	}
	w, err := c.PredictWith(t.Context(), split.Train, pick(expl.Pos, ints(split.Train)), pick(expl.Neg, ints(split.Train)), expl.Vectors)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.Y, p.Y) {
		t.Error("PredictWith the same explanations predicts something else")
	}
	next, err := CrossFit(t.Context(), in, 2, c)
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
	in.Start = c.Models[0]
	if _, err := CrossFit(t.Context(), in, 2, nil); err == nil {
		t.Error("a start that has seen every record was accepted")
	}
}

func ints(recs []int32) []int {
	out := make([]int, len(recs))
	for k, r := range recs {
		out[k] = int(r)
	}
	return out
}

func TestFitRefuses(t *testing.T) {
	ds, split := world(t, 20, 20, 8)
	good := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: tiny()}
	for name, change := range map[string]func(*Input){
		"no training records":     func(in *Input) { in.Train = nil },
		"nothing to stop by":      func(in *Input) { in.Val = nil },
		"invisible training":      func(in *Input) { in.Train = split.Val },
		"visible validation":      func(in *Input) { in.Val = split.Train },
		"heads":                   func(in *Input) { in.Settings.Heads = 3 },
		"loss":                    func(in *Input) { in.Settings.Loss = "l1" },
		"explanations too few":    func(in *Input) { in.Expl = &Explanations{Vectors: &Vectors{Dim: 1}} },
		"explanation off the end": func(in *Input) { in.Expl = noise(ds, 4); in.Expl.Pos[split.Train[3]] = 20 },
		"not finite": func(in *Input) {
			in.Expl = noise(ds, 4)
			zero := float32(0)
			in.Expl.Vectors.Data[7] = zero / zero
		},
	} {
		in := good
		change(&in)
		if _, _, err := Fit(t.Context(), in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Fit(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled fit returned %v", err)
	}
}

// Where errors are larger, the predicted standard deviation is; after calibration errors have the size it says; a pool of networks is at
// least as unsure as its members on average.
func TestSpreadIsCalibrated(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 4))
	var events []dataset.Event
	for u := range 120 { // users of even number rate by throwing dice
		for k, i := range rng.Perm(40)[:20] {
			sd := .02
			if u%2 == 0 {
				sd = .25
			}
			y := min(max(.5+.2*float64(i%5-2)/2+sd*rng.NormFloat64(), 0), 1)
			events = append(events, dataset.Event{User: strconv.Itoa(u), Item: strconv.Itoa(i), Rating: 1 + 4*y, Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New("dice", dataset.Spec{Min: 1, Max: 5}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set := tiny()
	set.LR, set.MaxEpochs, set.Patience = 5e-3, 12, 12
	in := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: set, Seed: 2}
	m, log := mustFit(t, in)
	val := mustPredict(t, m, split.Val, nil)
	if c := calibration(val, ds.Labels(split.Val)); math.Abs(c-1) > 1e-3 || log.SDScale < .5 || log.SDScale > 2 {
		t.Errorf("validation errors are %.3f standard deviations after scaling by %.3f", c, log.SDScale)
	}
	p := mustPredict(t, m, split.Test, nil)
	if c := calibration(p, ds.Labels(split.Test)); c < .75 || c > 1.33 {
		t.Errorf("test errors are %.2f standard deviations", c)
	}
	var sd, n [2]float64
	for k, r := range split.Test {
		u, _ := strconv.Atoi(ds.Users[ds.Records[r].User])
		sd[u%2] += float64(p.SD[k])
		n[u%2]++
	}
	if dice, calm := sd[0]/n[0], sd[1]/n[1]; dice < 2*calm {
		t.Errorf("users who throw dice have a mean standard deviation of %.3f, the others of %.3f", dice, calm)
	}
	in.Seed = 3
	other, _ := mustFit(t, in)
	q := mustPredict(t, other, split.Test, nil)
	both := Pool([]*Predictions{p, q})
	for k := range both.Y {
		if math.Abs(float64(both.Y[k]-(p.Y[k]+q.Y[k])/2)) > 1e-6 || both.SD[k] < min(p.SD[k], q.SD[k])-1e-6 {
			t.Fatalf("record %d: %v ± %v of %v ± %v and %v ± %v", k, both.Y[k], both.SD[k], p.Y[k], p.SD[k], q.Y[k], q.SD[k])
		}
	}
}

func TestClicks(t *testing.T) {
	ds, split := world(t, 60, 30, 15)
	set := tiny()
	set.Loss = BCE
	m, log := mustFit(t, Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: set, Seed: 1})
	y := ds.Labels(split.Test)
	var sum [2]float64
	var n [2]float64
	for k, p := range mustPredict(t, m, split.Test, nil).Y {
		side := int(target(BCE, y[k]))
		sum[side] += float64(p)
		n[side]++
	}
	if sum[1]/n[1] <= sum[0]/n[0] {
		t.Errorf("liked items get probability %.3f, others %.3f (log %+v)", sum[1]/n[1], sum[0]/n[0], log)
	}
}

// Without its inputs a network knows nothing of a pair beyond the biases: it adds the same to all. Each input alone tells pairs apart.
func TestInputsSwitchOff(t *testing.T) {
	ds, split := world(t, 30, 20, 10)
	data := newData(t, split.TrainView(ds))
	base := data.Bias.Predict(ds, split.Val)
	spread := func(off Without) float64 {
		set := tiny()
		set.Without = off
		set.Hidden, set.Dropout, set.InputDropout, set.LR, set.IDL2 = [2]int{32, 32}, 0, 0, 5e-3, 0 // no unit may die of a single input
		m, _ := mustFit(t, Input{Data: data, Train: split.Train, Settings: set, Seed: 4, Epochs: 12})
		y := mustPredict(t, m, split.Val, nil).Y
		lo, hi := math.Inf(1), math.Inf(-1)
		for k := range y {
			if y[k] > 0 && y[k] < 1 { // not clamped
				d := float64(y[k] - base[k])
				lo, hi = min(lo, d), max(hi, d)
			}
		}
		return hi - lo
	}
	all := Without{Consumer: true, Product: true, Sequence: true, Context: true, Text: true}
	if s := spread(all); s > 2e-6 {
		t.Errorf("without any input the network tells pairs apart by %v", s)
	}
	for _, on := range []string{"consumer", "product", "sequence", "context", "text"} {
		off := all
		switch on {
		case "consumer":
			off.Consumer = false
		case "product":
			off.Product = false
		case "sequence":
			off.Sequence = false
		case "context":
			off.Context = false
		case "text":
			off.Text = false
		}
		if s := spread(off); s < 2e-5 {
			t.Errorf("%s alone moves predictions by %v only", on, s)
		}
	}
}
