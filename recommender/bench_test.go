package recommender

import (
	"testing"

	"recpie/internal/torch"
)

// BenchmarkStep is one training step at full size: 256 records, 64 dimensions, histories of 20.
func BenchmarkStep(b *testing.B) {
	ds, split := world(b, 200, 300, 60)
	in := Input{Data: newData(b, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: DefaultSettings(1000), Seed: 1}
	m, err := prepare(in)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	adam, err := torch.NewAdam(m.params, torch.AdamConfig{LR: 1e-3, Decoupled: true})
	if err != nil {
		b.Fatal(err)
	}
	defer adam.Close()
	for _, table := range []string{tableUsers, tableItems} {
		if err := adam.SetRowwise(table); err != nil {
			b.Fatal(err)
		}
	}
	t := newTrainer(m, in, adam)
	t.lr = 1e-3
	step := new(batch)
	defer step.free()
	labels := ds.Labels(split.Train)
	for k := 0; b.Loop(); k++ {
		from := k * 256 % (len(split.Train) - 256)
		if err := m.assemble(step, pairs{recs: split.Train[from : from+256]}, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := t.step(step, labels[from:from+256]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkPredict predicts 2048 records with histories of 20.
func BenchmarkPredict(b *testing.B) {
	ds, split := world(b, 200, 300, 60)
	in := Input{Data: newData(b, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: DefaultSettings(1000), Seed: 1}
	m, err := prepare(in)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for b.Loop() {
		if _, err := m.Predict(b.Context(), split.Train[:predictBatch], nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*predictBatch/b.Elapsed().Seconds(), "records/s")
}
