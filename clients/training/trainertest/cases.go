package trainertest

import (
	"errors"
	"math"
	"slices"
	"testing"

	"recpie/clients/training"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// losses: ppo in the server's own form, and with that taken away in the forms that stand in for it, is one gradient and one loss.
func (s Server) losses(t *testing.T) {
	var want []float32
	for _, gone := range [][]string{nil, {tinker.LossPPO}, {tinker.LossPPO, tinker.LossImportanceSampling}} {
		session := s.dial(t, without(gone...))
		m := s.model(t, session)
		before := forward(t, m, texts())
		data := sampled(texts(), before)
		p, err := m.ForwardBackward(t.Context(), data, tinker.LossPPO, clip)
		if len(gone) == 2 && session.Traits().MeanGradients == training.Yes {
			if fault.ClassOf(err) != fault.Fatal || err == nil {
				t.Errorf("signed weights on a server that divides by their sum: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("without %v: %v", gone, err)
		}
		step, err := m.OptimStep(t.Context(), sgd)
		if err != nil {
			t.Fatal(err)
		}
		pass, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := step.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if loss := surrogate(data, before); math.Abs(pass.Metrics[tinker.MetricLossSum]-loss) > 1e-4*math.Abs(loss) {
			t.Errorf("without %v: the loss is %v, ppo's is %v", gone, pass.Metrics[tinker.MetricLossSum], loss)
		}
		moved(t, before, forward(t, m, texts()))
		got := weights(t, session, m, "after")
		if form := session.Traits().PPO; slices.Contains(gone, form) || form == "" {
			t.Errorf("without %v, ppo is sent as %q", gone, form)
		} else if want == nil {
			want = got
		} else {
			near(t, "weights after a step in the form of "+form, got, want, 1e-5)
		}
	}
}

// surrogate is ppo's loss by its definition, with the bounds of clip.
func surrogate(data []training.Datum, lp [][]float32) (sum float64) {
	for i, d := range data {
		for j, a := range d.Advantages {
			r := math.Exp(float64(lp[i][j]) - float64(d.Logprobs[j]))
			sum -= math.Min(r*float64(a), math.Min(math.Max(r, .7), 1.3)*float64(a))
		}
	}
	return sum
}

// sums: what is appended to a text without an advantage changes nothing, whatever the server divides by.
func (s Server) sums(t *testing.T) {
	session := s.dial(t, nil)
	var want []float32
	for _, longer := range []bool{false, true} {
		m := s.model(t, session)
		data := sampled(texts(), forward(t, m, texts()))
		if longer {
			d := &data[1]
			for range 4 {
				d.Tokens, d.Targets = append(d.Tokens, 14), append(d.Targets, 15)
				d.Logprobs, d.Advantages = append(d.Logprobs, -1), append(d.Advantages, 0)
			}
		}
		train(t, m, data)
		if got := weights(t, session, m, "after"); !longer {
			want = got
		} else {
			near(t, "weights after a step on a longer text", got, want, 1e-5)
		}
	}
}

// lostAnswers: each training request runs once though its first answer is lost, or the client says that it cannot know.
func (s Server) lostAnswers(t *testing.T) {
	var want []float32
	for _, lossy := range []bool{false, true} {
		cut := &cutter{paths: []string{tinker.PathForwardBackward, tinker.PathOptimStep, tinker.PathSaveForSampler, tinker.PathSaveWeights}}
		session := s.dial(t, cut.wrap)
		m := s.model(t, session)
		data := sampled(texts(), forward(t, m, texts()))
		train(t, m, data) // finds out what the server is
		cut.arm(lossy)
		p, err := m.ForwardBackward(t.Context(), data, tinker.LossPPO, clip)
		if lossy && session.Traits().DeduplicatesSeqID == training.No {
			if !errors.Is(err, training.ErrAmbiguous) || fault.ClassOf(err) != fault.Endpoint || fault.HintOf(err) == "" {
				t.Errorf("a pass that would run twice: %v", err)
			}
			if _, again := m.OptimStep(t.Context(), sgd); !errors.Is(again, training.ErrAmbiguous) {
				t.Errorf("the model goes on after a pass of unknown fate: %v", again)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		step, err := m.OptimStep(t.Context(), sgd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := step.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		save, err := m.SaveWeights(t.Context(), "state")
		if err != nil {
			t.Fatal(err)
		}
		saved, err := save.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at, err := tinker.ParsePath(saved.Path); err != nil || at.Model != m.ID() || at.Kind != tinker.KindWeights {
			t.Errorf("path %q, %v", saved.Path, err)
		}
		if got := weights(t, session, m, "after"); !lossy {
			want = got
		} else {
			near(t, "weights after steps whose answers were lost", got, want, 1e-6)
			if cut.cuts() < 4 {
				t.Errorf("only %d answers were lost", cut.cuts())
			}
		}
	}
}

// restored: a model made from a checkpoint goes on as the one that was saved, moments and all.
func (s Server) restored(t *testing.T) {
	session := s.dial(t, nil)
	m := s.model(t, session)
	data := sampled(texts(), forward(t, m, texts()))
	train(t, m, data)
	p, err := m.SaveWeights(t.Context(), "half-way")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	train(t, m, data)
	for range 2 { // the second time the way is known
		again, err := session.CreateFromCheckpoint(t.Context(), saved.Path, s.Base, true)
		if err != nil {
			t.Fatal(err)
		}
		train(t, again, data)
		near(t, "weights of the restored model", weights(t, session, again, "restored"), weights(t, session, m, "unbroken-"+again.ID()[len(again.ID())-1:]), 1e-5)
	}
	if session.Traits().CreateViaLoad == training.Unknown {
		t.Error("how models are restored was not remembered")
	}
}

// refusals: what the server refuses is the item's fault, and the model goes on.
func (s Server) refusals(t *testing.T) {
	session := s.dial(t, nil)
	m := s.model(t, session)
	lp := forward(t, m, texts())
	p, err := m.ForwardBackward(t.Context(), texts(), "no_such_loss", nil)
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err == nil || fault.ClassOf(err) != fault.Item {
		t.Errorf("a loss that does not exist: %v (%v)", err, fault.ClassOf(err))
	}
	if _, err := session.CreateFromCheckpoint(t.Context(), "tinker://"+m.ID()+"/weights/never", s.Base, true); err == nil {
		t.Error("a checkpoint that does not exist was restored")
	}
	near(t, "log-probabilities after a refusal", slices.Concat(forward(t, m, texts())...), slices.Concat(lp...), 1e-6)
}

// softPrompts are sent to servers that train them, and to no other.
func (s Server) softPrompts(t *testing.T) {
	session := s.dial(t, nil)
	m := s.model(t, session)
	data := texts()[:1]
	info, err := m.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	width := max(1, info.ModelData.HiddenSize)
	data[0].Embeds, data[0].EmbedPositions = make([]float32, width), []int64{0}
	for i := range width {
		data[0].Embeds[i] = float32(i%5) / 10
	}
	p, err := m.ForwardBackward(t.Context(), data, tinker.LossCrossEntropy, nil)
	if !session.Traits().SoftPrompts {
		if fault.ClassOf(err) != fault.Fatal || err == nil {
			t.Errorf("soft rows for a server that does not train them: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	pass, err := p.Wait(t.Context())
	if err != nil || len(pass.EmbedGrads[0]) != width || slices.Max(pass.EmbedGrads[0]) == 0 {
		t.Errorf("%+v, %v", pass, err)
	}
}
