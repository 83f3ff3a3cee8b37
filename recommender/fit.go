package recommender

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// Input says what to fit.
type Input struct {
	Data     *Data
	Train    []int32       // records to learn from, visible in the view
	Val      []int32       // records to stop by, invisible; may be empty when Epochs is given
	Expl     *Explanations // nil: a network without the two explanation inputs
	Settings Settings
	Seed     int64
	Start    *Model  // weights to start from, nil = fresh; same sizes and explanation dimension
	Epochs   int     // train exactly so many; 0 = stop early by Val
	SDScale  float64 // of the predicted standard deviations where there are no validation records, from an earlier Fit; 0 = 1
	Progress func(Epoch)
}

// Epoch is one line of the training log.
type Epoch struct {
	Epoch   int     `json:"epoch"` // from 1
	Loss    float64 `json:"loss"`  // mean over the epoch's batches, without the penalty on ids
	ValRMSE float64 `json:"val_rmse,omitempty"`
}

// FitLog tells how a fit went.
type FitLog struct {
	Epochs  []Epoch `json:"epochs"`
	Best    int     `json:"best"`     // epoch whose weights the model has
	ValRMSE float64 `json:"val_rmse"` // of those weights, 0 without validation records
	SDScale float64 `json:"sd_scale"` // what validation errors are in units of their predicted standard deviations
}

// Fit trains a network. With Epochs 0 it stops when the validation RMSE has not improved for Settings.Patience epochs and returns
// the best epoch's weights. The same input gives the same weights bit for bit on the same machine and thread count.
func Fit(ctx context.Context, in Input) (*Model, *FitLog, error) {
	m, err := prepare(in)
	if err != nil {
		return nil, nil, err
	}
	log, err := m.train(ctx, in)
	if err != nil {
		m.Close()
		return nil, nil, err
	}
	return m, log, nil
}

func prepare(in Input) (*Model, error) {
	if err := in.Settings.check(); err != nil {
		return nil, err
	}
	if len(in.Train) == 0 || (len(in.Val) == 0 && in.Epochs <= 0) {
		return nil, fault.Newf(fault.Fatal, "recommender: fit", "%d training and %d validation records for %d epochs", len(in.Train), len(in.Val), in.Epochs)
	}
	for _, r := range slices.Concat(in.Train, in.Val) {
		if r < 0 || int(r) >= len(in.Data.ds.Records) {
			return nil, fault.Newf(fault.Fatal, "recommender: fit", "record %d of %d", r, len(in.Data.ds.Records))
		}
	}
	for _, r := range in.Train {
		if !in.Data.View.Visible(r) {
			return nil, fault.Newf(fault.Fatal, "recommender: fit", "training record %d is not visible", r)
		}
	}
	for _, r := range in.Val {
		if in.Data.View.Visible(r) {
			return nil, fault.Newf(fault.Fatal, "recommender: fit", "validation record %d is visible", r)
		}
	}
	m := &Model{settings: in.Settings, data: in.Data, seed: in.Seed, sdScale: 1}
	if in.SDScale > 0 {
		m.sdScale = in.SDScale
	}
	m.features = newScaler(len(in.Train), len(in.Data.Features.Names), func(k int) []float32 { return in.Data.Features.Row(in.Train[k]) })
	m.bins = newBins(len(in.Train), len(in.Data.Features.Names), in.Settings.Pieces, func(k int) []float32 { return in.Data.Features.Row(in.Train[k]) })
	row := make([]float32, in.Data.Text.Dim())
	m.around = newScaler(len(in.Train), len(row), func(k int) []float32 {
		in.Data.Text.Row(row, in.Train[k])
		return row
	})
	if in.Expl != nil {
		if err := in.Expl.check(len(in.Data.ds.Records)); err != nil {
			return nil, err
		}
		m.textDim = in.Expl.Vectors.Dim
		if err := m.checkPairs(in.Expl.of(in.Train), in.Expl.Vectors); err != nil {
			return nil, err
		}
		m.texts = textScaler(in.Expl, in.Train)
	}
	if err := m.initialise(in.Seed); err != nil {
		return nil, err
	}
	if in.Start != nil {
		if err := m.params.Load(in.Start.params.Snapshot()); err != nil {
			m.Close()
			return nil, fault.WithHint(fault.New(fault.Fatal, "recommender: start", err), "start from a model of the same sizes and inputs")
		}
		m.features, m.bins, m.around, m.texts, m.epochs = in.Start.features, in.Start.bins, in.Start.around, in.Start.texts, in.Start.epochs
	}
	return m, nil
}

// textScaler measures the vectors that the training records use, and keeps dimensions of little spread small.
func textScaler(e *Explanations, train []int32) scaler {
	var used []int32
	for _, r := range train {
		for _, v := range [2]int32{e.Pos[r], e.Neg[r]} {
			if v >= 0 && int(v) < e.Vectors.Len() {
				used = append(used, v)
			}
		}
	}
	d := e.Vectors.Dim
	s := newScaler(len(used), d, func(k int) []float32 { return e.Vectors.Data[int(used[k])*d : (int(used[k])+1)*d] })
	mean := float32(0)
	for _, sd := range s.SD {
		mean += sd / float32(d)
	}
	for c := range s.SD {
		s.SD[c] = max(s.SD[c], mean/4)
	}
	return s
}

func (m *Model) train(ctx context.Context, in Input) (*FitLog, error) {
	adam, err := torch.NewAdam(m.params, torch.AdamConfig{LR: m.settings.LR, Decoupled: true, ClipNorm: m.settings.Clip,
		Decay: func(name string) float64 {
			if name == tableUsers || name == tableItems {
				return 0
			}
			return m.settings.WeightDecay
		}})
	if err != nil {
		return nil, fault.New(fault.Fatal, "recommender: fit", err)
	}
	defer adam.Close()
	for _, table := range []string{tableUsers, tableItems} {
		if err := adam.SetRowwise(table); err != nil {
			return nil, fault.New(fault.Fatal, "recommender: fit", err)
		}
	}
	t := newTrainer(m, in, adam)
	defer t.pool.close()
	labels := in.Data.ds.Labels(in.Val)
	log, last := &FitLog{ValRMSE: math.Inf(1)}, in.Epochs
	if last <= 0 {
		last = m.settings.MaxEpochs
	}
	var best []torch.Named
	for e := 1; e <= last; e++ {
		t.lr = m.settings.LR * math.Pow(m.settings.LRDecay, float64(e-1))
		loss, err := t.epoch(ctx)
		if err != nil {
			return nil, err
		}
		line := Epoch{Epoch: e, Loss: loss}
		if len(in.Val) > 0 {
			if line.ValRMSE, err = m.rmse(ctx, in, labels); err != nil {
				return nil, err
			}
		}
		log.Epochs = append(log.Epochs, line)
		if in.Progress != nil {
			in.Progress(line)
		}
		if in.Epochs > 0 || line.ValRMSE < log.ValRMSE {
			log.Best, log.ValRMSE = e, line.ValRMSE
			if in.Epochs <= 0 {
				best = m.params.Snapshot()
			}
		} else if e-log.Best >= m.settings.Patience {
			break
		}
	}
	if best != nil {
		if err := m.params.Load(best); err != nil {
			return nil, err
		}
	}
	if log.Best == 0 {
		return nil, fault.Newf(fault.Fatal, "recommender: fit", "the validation RMSE was never finite")
	}
	m.epochs += log.Best
	log.SDScale = m.sdScale
	if len(in.Val) > 0 && m.settings.Loss == MSE {
		m.sdScale = 1
		p, err := m.Predict(ctx, in.Val, in.Expl)
		if err != nil {
			return nil, err
		}
		m.sdScale = calibration(p, labels)
		log.SDScale = m.sdScale
	}
	return log, nil
}

// rmse measures the model on validation records: of the rating, or of the click for BCE.
func (m *Model) rmse(ctx context.Context, in Input, labels []float32) (float64, error) {
	p, err := m.Predict(ctx, in.Val, in.Expl)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for k, y := range p.Y {
		e := float64(y - target(m.settings.Loss, labels[k]))
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(labels))), nil
}

func target(loss Loss, y float32) float32 {
	if loss == MSE {
		return y
	}
	if y >= ClickAt {
		return 1
	}
	return 0
}

type trainer struct {
	m     *Model
	in    Input
	adam  *torch.Adam
	rng   *rand.PCG
	lr    float64 // of the running epoch
	pool  *pool
	order []int32 // of the running epoch
}

func newTrainer(m *Model, in Input, adam *torch.Adam) *trainer {
	return &trainer{m: m, in: in, adam: adam, rng: rand.NewPCG(uint64(in.Seed), 0x7a1), pool: newPool(ahead + 1), order: make([]int32, len(in.Train))}
}

// epoch passes once over the training records in a fresh random order.
func (t *trainer) epoch(ctx context.Context) (float64, error) {
	copy(t.order, t.in.Train)
	rand.New(t.rng).Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	src := &source{recs: t.order, expl: t.in.Expl, labels: true}
	if t.in.Expl != nil {
		src.vectors = t.in.Expl.Vectors
	}
	l := t.m.load(ctx, t.pool, src, 0, t.m.settings.Batch)
	defer l.close()
	total, steps := 0.0, 0
	for {
		b, err := l.next()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		if b == nil {
			return total / float64(steps), nil
		}
		loss, err := t.step(b, b.labels)
		l.done(b)
		if err != nil {
			return 0, fault.New(fault.Fatal, "recommender: fit", err)
		}
		total += loss
		steps++
	}
}

func (t *trainer) step(b *batch, labels []float32) (loss float64, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		f := &forward{s: s, m: t.m, drop: t.rng, lookup: func(table string, ids []int64) *torch.Tensor { return t.adam.Lookup(s, table, ids) }}
		main, whole, y := f.loss(b, labels)
		if t.m.settings.Loss == MSE {
			whole = s.Add(whole, s.MulS(f.surprise(b, s.Float32s(y), labels), spreadWeight))
		}
		s.Backward(whole)
		loss = s.Item(main)
		return nil
	})
	if err != nil {
		return 0, err
	}
	_, err = t.adam.Step(t.lr)
	return loss, err
}

// loss returns the loss on the labels, the same with the penalty on the embeddings of ids, and the predictions.
func (f *forward) loss(b *batch, labels []float32) (main, whole, predicted *torch.Tensor) {
	o := f.run(b)
	y := f.s.Float32(labels, int64(len(labels)))
	if f.m.settings.Loss == BCE {
		main = f.s.BCEWithLogits(o.y, y)
	} else {
		main = f.s.MSE(o.y, y)
	}
	return main, f.s.Add(main, f.s.MulS(o.ids, f.m.settings.IDL2)), o.y
}
