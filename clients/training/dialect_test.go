package training

import (
	"errors"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// silent is goodPass without the summed loss.
func silent(r *pb.ForwardBackwardRequest) (string, []byte) {
	kind, b := goodPass(r)
	var out pb.ForwardBackwardOutput
	_ = proto.Unmarshal(b, &out)
	out.Metrics = nil
	b, _ = proto.Marshal(&out)
	return kind, b
}

// clippedDatum meets log-probabilities −1, −2, −3, −4: the ratios are e, 1, 1/e and e.
func clippedDatum() Datum {
	return Datum{Tokens: []int32{1, 2, 3, 4}, Targets: []int64{2, 3, 4, 5}, Logprobs: []float32{-2, -2, -2, -5}, Advantages: []float32{1, .5, -1, -1}}
}

func floats(t *testing.T, r *pb.ForwardBackwardRequest, name string) []float32 {
	t.Helper()
	v, _, err := tinker.TensorFloats(r.Data[0].LossFnInputs[name])
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLossPath: a server that refuses ppo is given another loss with the same gradient, is asked once, and the loss returned is ppo's.
func TestLossPath(t *testing.T) {
	e := float32(math.E)
	want := -(1.2*1 + .5 - .8 - math.E) // clipped above, not clipped, clipped below, not clipped
	for name, tc := range map[string]struct {
		refuse []string
		order  []string // of the first call, then of the second
		input  string
		pull   []float32
	}{
		"importance sampling": {[]string{"ppo"}, []string{"ppo", "importance_sampling", "importance_sampling", "importance_sampling", "importance_sampling"}, tinker.InputAdvantages, []float32{0, .5, 0, -1}},
		"cross entropy": {[]string{"ppo", "importance_sampling"}, []string{"ppo", "importance_sampling", "cross_entropy", "cross_entropy", "cross_entropy", "cross_entropy"},
			tinker.InputWeights, []float32{0, .5, 0, -e}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.result, f.refuse = silent, map[string]bool{}
			for _, l := range tc.refuse {
				f.refuse[l] = true
			}
			m := newModel(t, f.dial(t))
			cfg := map[string]float64{tinker.ConfigClipLow: .8, tinker.ConfigClipHigh: 1.2}
			for range 2 {
				p, err := m.ForwardBackward(t.Context(), []Datum{clippedDatum()}, tinker.LossPPO, cfg)
				if err != nil {
					t.Fatal(err)
				}
				pass, err := p.Wait(t.Context())
				if err != nil || math.Abs(pass.Metrics[tinker.MetricLossSum]-want) > 1e-6 {
					t.Errorf("%+v, %v; want the loss %g", pass, err, want)
				}
			}
			var order []string
			for _, r := range f.passes[1:] {
				order = append(order, r.LossFn)
			}
			last := f.passes[len(f.passes)-1]
			got := floats(t, last, tc.input)
			if !slices.Equal(order, tc.order) || last.ForwardOnly || !f.passes[len(f.passes)-2].ForwardOnly || len(last.LossFnConfig) != 0 {
				t.Errorf("passes %v, the last %v", order, last)
			}
			for i := range got {
				if math.Abs(float64(got[i]-tc.pull[i])) > 1e-6 {
					t.Errorf("%s %v, want %v", tc.input, got, tc.pull)
				}
			}
		})
	}
	f := newFake(t)
	f.refuse = map[string]bool{"ppo": true, "importance_sampling": true, "cross_entropy": true}
	if _, err := newModel(t, f.dial(t)).ForwardBackward(t.Context(), []Datum{clippedDatum()}, tinker.LossPPO, nil); fault.ClassOf(err) != fault.Item || fault.HintOf(err) == "" {
		t.Errorf("no loss at all: %v", err)
	}
}

// TestForeignServer: opaque ids, no summed loss, loading by id alone, short sampler paths, results announced before they are sent.
func TestForeignServer(t *testing.T) {
	f := newFake(t)
	f.opaque, f.byID, f.shortPath, f.result, f.extensions = true, true, true, silent, nil
	f.poll = func(n int, w http.ResponseWriter) bool {
		if n > 1 {
			return false
		}
		_, _ = io.WriteString(w, `{"status":"complete_metadata","response_payload_size":99}`)
		return true
	}
	archived := ""
	f.archive = func(w http.ResponseWriter, r *http.Request) {
		archived = r.URL.Path
		_, _ = w.Write(tarOf(t, true, file("adapter_model.safetensors")))
	}
	ctx := t.Context()
	s := f.dial(t)
	m := newModel(t, s)
	if !strings.HasPrefix(m.ID(), "model_") {
		t.Fatal(m.ID())
	}
	for loss, want := range map[string]float64{
		tinker.LossPPO:                -(1.2*1 + .5 - .8 - math.E),
		tinker.LossImportanceSampling: -(math.E + .5 - 1/math.E - math.E),
		tinker.LossCrossEntropy:       1 + 2 + 3 + 4,
	} {
		p, err := m.ForwardBackward(ctx, []Datum{clippedDatum()}, loss, nil)
		if err != nil {
			t.Fatal(err)
		}
		if pass, err := p.Wait(ctx); err != nil || math.Abs(pass.Metrics[tinker.MetricLossSum]-want) > 1e-6 {
			t.Errorf("%s: %+v, %v; want %g", loss, pass, err, want)
		}
	}
	save, err := m.SaveWeightsForSampler(ctx, "v1")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := save.Wait(ctx)
	if err != nil || saved.Path != "tinker://"+m.ID()+"/v1" {
		t.Fatalf("%+v, %v", saved, err)
	}
	if err := s.Download(ctx, saved.Path, filepath.Join(t.TempDir(), "v1")); err != nil || !strings.HasSuffix(archived, "/checkpoints/v1/archive") {
		t.Errorf("%s, %v", archived, err)
	}
	for range 2 {
		again, err := s.CreateFromCheckpoint(ctx, "tinker://"+m.ID()+"/weights/w", "", true)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() == m.ID() || again.seq != 1 {
			t.Errorf("%s, seq %d", again.ID(), again.seq)
		}
	}
	tried := 0
	for _, line := range f.log {
		if strings.HasPrefix(line, tinker.PathLoadWeights) && strings.Contains(line, "model_seq_id") {
			tried++
		}
		if strings.HasPrefix(line, tinker.PathCreateModel) && strings.Contains(line, "told") && !strings.Contains(line, `"rank":4`) {
			t.Error(line)
		}
	}
	if tried != 1 {
		t.Errorf("the form that was refused was sent %d times", tried)
	}
}

// TestForgetfulServer: where a repeated seq_id runs again, a request whose answer is lost is not sent again.
func TestForgetfulServer(t *testing.T) {
	f := newFake(t)
	f.forgetful = true
	m := newModel(t, f.dial(t))
	f.ran, f.dropSubmit = nil, 1
	_, err := m.OptimStep(t.Context(), tinker.AdamParams{})
	if !errors.Is(err, ErrUnknownFate) || fault.ClassOf(err) != fault.Endpoint || !slices.Equal(f.ran, []int32{2}) {
		t.Errorf("ran %v, %v", f.ran, err)
	}
	f = newFake(t)
	m = newModel(t, f.dial(t))
	f.ran, f.dropSubmit = nil, 1
	if _, err := m.OptimStep(t.Context(), tinker.AdamParams{}); err != nil || !slices.Equal(f.ran, []int32{2}) {
		t.Errorf("a server that runs a number once: ran %v, %v", f.ran, err)
	}
}
