//go:build peers

package lm

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/torch"
)

// computed is what transformers and PEFT say; see scripts/peers/transformers_check.py.
type computed struct {
	IDs     [][]int32     `json:"ids"`
	SoftAt  int           `json:"soft_at"`
	Rows    [][][]float32 `json:"rows"`
	Logits  [][][]float64 `json:"logits"`
	Soft    [][][]float64 `json:"soft"`
	LoRA    [][][]float64 `json:"lora"`
	Both    [][][]float64 `json:"both"`
	Weights [][]float32   `json:"weights"`
	Loss    float64       `json:"loss"`

	SoftGrads [][][]float64          `json:"soft_grads"`
	Grads     map[string][][]float64 `json:"grads"`
}

func python(t *testing.T, args ...string) {
	t.Helper()
	bin := os.Getenv("RECPIE_PEFT_PYTHON")
	if bin == "" {
		t.Skip("RECPIE_PEFT_PYTHON is not set: run scripts/peers/transformers.sh")
	}
	cmd := exec.CommandContext(t.Context(), bin, append([]string{filepath.Join("..", "..", "scripts", "peers", "transformers_check.py")}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("transformers_check.py %v: %v\n%s", args, err, out)
	}
}

// TestAgainstTransformers compares logits, gradients and files of every architecture with transformers and PEFT: our engine reads their
// checkpoints (in shards) and adapters, and they read our adapters and merged checkpoints.
func TestAgainstTransformers(t *testing.T) {
	root := t.TempDir()
	python(t, "make", root)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"gpt2", "llama-2", "llama-3", "llama-3.1", "mistral", "mixtral", "qwen2", "vicuna"}; !slices.Equal(names, want) {
		t.Fatalf("architectures %v, want %v", names, want)
	}
	ours := map[string][][][]float32{}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { ours[name] = compareArchitecture(t, filepath.Join(root, name)) })
	}
	if t.Failed() {
		return
	}
	python(t, append([]string{"read", root}, names...)...)
	for _, name := range names {
		var back struct{ Adapter, Merged [][][]float64 }
		readGolden(t, filepath.Join(root, name, "read.json"), &back)
		t.Logf("%s: our adapter in PEFT %.1e, our merged checkpoint in transformers %.1e", name,
			worst(t, name+": our adapter in PEFT", ours[name], back.Adapter), worst(t, name+": merged", ours[name], back.Merged))
	}
}

const logitTolerance = 1e-4

// compareArchitecture returns the logits of an adapter that it leaves in DIR/ours-adapter, and merged in DIR/ours-merged.
func compareArchitecture(t *testing.T, dir string) [][][]float32 {
	var g computed
	readGolden(t, filepath.Join(dir, "golden.json"), &g)
	b, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Model.Close)
	table := newSoftTable(b.Model.Cfg.HiddenSize)
	plain, soft := make([][]int64, len(g.IDs)), make([][]int64, len(g.IDs))
	for i, ids := range g.IDs {
		plain[i] = promptKeys(&GenRequest{Prompt: ids}, table)
		soft[i] = slices.Clone(plain[i])
		for k, row := range g.Rows[i] {
			soft[i][g.SoftAt+k] = table.key(row, i+1)
		}
	}
	cfg, _, err := readAdapter(filepath.Join(dir, "adapter"), b.Model.Cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(b, cfg, TrainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	if err := tr.Load(filepath.Join(dir, "adapter"), false); err != nil {
		t.Fatal(err)
	}
	base := b.Model.network()
	report := []string{}
	for _, c := range []struct {
		what string
		keys [][]int64
		lora bool
		want [][][]float64
	}{{"base", plain, false, g.Logits}, {"soft rows", soft, false, g.Soft}, {"adapter", plain, true, g.LoRA}, {"both", soft, true, g.Both}} {
		nets := map[string]func(s *torch.Scope) *network{"": func(*torch.Scope) *network { return base }}
		if c.lora {
			delete(nets, "")
			nets["trained"] = func(s *torch.Scope) *network { n, _ := tr.network(s, true, 0); return n }
			for how, limit := range map[string]int64{"merged": 1 << 40, "factors": 0} {
				a := loadedAdapter(t, b, filepath.Join(dir, "adapter"), limit)
				nets[how] = func(*torch.Scope) *network { return a.net }
			}
		}
		for how, net := range nets {
			got := batchLogits(t, b, net, c.keys, table.data)
			report = append(report, fmt.Sprintf("%s %s %.1e", c.what, how, worst(t, c.what+" "+how, got, c.want)))
		}
	}
	slices.Sort(report)
	t.Log(strings.Join(report, ", "))
	compareGradients(t, b, cfg, dir, &g, false)
	compareGradients(t, b, cfg, dir, &g, true)

	// What we train goes back.
	data := data(&g)
	if _, err := tr.ForwardBackward(context.Background(), data, "cross_entropy", nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.OptimStep(AdamParams{LearningRate: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "ours-adapter")
	if err := tr.Save(out, false); err != nil {
		t.Fatal(err)
	}
	if err := Merge(dir, out, filepath.Join(dir, "ours-merged")); err != nil {
		t.Fatal(err)
	}
	return batchLogits(t, b, func(s *torch.Scope) *network { n, _ := tr.network(s, true, 0); return n }, plain, nil)
}

func loadedAdapter(t *testing.T, b *Bundle, dir string, limit int64) *adapter {
	t.Helper()
	defer func(n int64) { mergeBytes = n }(mergeBytes)
	mergeBytes = limit
	cfg, data, err := readAdapter(dir, b.Model.Cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := &adapter{cfg: cfg}
	if err := a.arrange(b.Model, b.Model.network(), data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.free)
	return a
}

func data(g *computed) []Datum {
	out := make([]Datum, len(g.IDs))
	for i, ids := range g.IDs {
		n := len(ids) - 1
		out[i] = Datum{Tokens: ids[:n], Weights: g.Weights[i]}
		for _, id := range ids[1:] {
			out[i].Targets = append(out[i].Targets, int64(id))
		}
		for k, row := range g.Rows[i] {
			out[i].Embeds = append(out[i].Embeds, row...)
			out[i].EmbedPos = append(out[i].EmbedPos, int64(g.SoftAt+k))
		}
	}
	return out
}

// compareGradients checks loss and gradients of adapter and soft rows, with activations kept or computed again.
func compareGradients(t *testing.T, b *Bundle, cfg LoRAConfig, dir string, g *computed, again bool) {
	t.Helper()
	tr, err := NewTrainer(b, cfg, TrainerOptions{Checkpointing: again})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Load(filepath.Join(dir, "adapter"), false); err != nil {
		t.Fatal(err)
	}
	res, err := tr.ForwardBackward(context.Background(), data(g), "cross_entropy", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss", res.Metrics["loss:sum"], g.Loss, 1e-4*math.Abs(g.Loss))
	top := 0.0
	check := func(what string, got []float32, want []float64) {
		size, diff := 0.0, 0.0
		for i := range want {
			size += want[i] * want[i]
			diff += (want[i] - float64(got[i])) * (want[i] - float64(got[i]))
		}
		rel := math.Sqrt(diff) / math.Max(1e-12, math.Sqrt(size))
		if top = max(top, rel); !(rel <= 1e-4) || size == 0 {
			t.Errorf("gradient of %s is off by %.2g of its norm %.2g", what, rel, math.Sqrt(size))
		}
	}
	if len(g.Grads) != len(tr.specs) {
		t.Errorf("PEFT has %d gradients, we %d", len(g.Grads), len(tr.specs))
	}
	for i, sp := range tr.specs {
		check(sp.name, tr.grads[i], slices.Concat(g.Grads[peftPrefix(b.Model.Cfg)+sp.name]...))
	}
	for i := range g.IDs {
		check(fmt.Sprint("the soft rows of sequence ", i), res.EmbedGrads[i], slices.Concat(g.SoftGrads[i]...))
	}
	t.Logf("gradients (activations computed again: %v) within %.1e of their norms", again, top)
}

// batchLogits computes all logits of sequences in one padded batch.
func batchLogits(t *testing.T, b *Bundle, net func(*torch.Scope) *network, keys [][]int64, soft []float32) [][][]float32 {
	t.Helper()
	p := newPlan(keys, true)
	w := newWanted(p)
	tickets := make([][][2]int32, len(keys))
	for i, k := range keys {
		for pos := range k {
			tickets[i] = append(tickets[i], w.add(p.index[i], pos))
		}
	}
	d, v := int64(b.Model.Cfg.HiddenSize), b.Model.Cfg.VocabSize
	out := make([][][]float32, len(keys))
	if err := torch.NoGrad(func(s *torch.Scope) error {
		var rows *torch.Tensor
		if len(soft) > 0 {
			rows = s.Float32(soft, int64(len(soft))/d, d)
		}
		n := net(s)
		h := n.forward(s, p, rows, w)
		flat := s.Float32s(n.logits(s, h))
		for i := range keys {
			for _, ticket := range tickets[i] {
				if row := w.row(ticket); s.Err() == nil {
					out[i] = append(out[i], flat[int(row)*v:int(row+1)*v])
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// worst returns the largest difference and fails the test when it is above the tolerance.
func worst(t *testing.T, what string, got [][][]float32, want [][][]float64) float64 {
	t.Helper()
	top := 0.0
	for i := range want {
		for p := range want[i] {
			for k, v := range want[i][p] {
				if d := math.Abs(v - float64(got[i][p][k])); !(d <= top) {
					top = d
				}
			}
		}
	}
	if !(top <= logitTolerance) {
		t.Errorf("%s: logits differ by %.2g, allowed %.0e", what, top, logitTolerance)
	}
	return top
}
