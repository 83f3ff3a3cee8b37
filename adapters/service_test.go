package adapters

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"recpie/internal/safetensors"
)

// plainLoRA writes a PEFT folder of one module with these numbers.
func plainLoRA(t *testing.T, rank int, a, b []float32) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`{"peft_type":"LORA","r":%d,"lora_alpha":8,"target_modules":["q_proj"]}`, rank)
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n := int64(rank)
	tensors := []safetensors.Tensor{safetensors.F32("x.lora_A.weight", []int64{n, int64(len(a)) / n}, a), safetensors.F32("x.lora_B.weight", []int64{int64(len(b)) / n, n}, b)}
	if err := safetensors.WriteFile(filepath.Join(dir, WeightsFile), nil, tensors); err != nil {
		t.Fatal(err)
	}
	return dir
}

func written(t *testing.T, s *Store, number int, lora string) *Version {
	t.Helper()
	v, err := s.Write(number, Lineage{Run: "r", Step: number}, lora, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func store(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDiffMeasuresWhatChanged(t *testing.T) {
	s := store(t)
	a := written(t, s, 1, plainLoRA(t, 1, []float32{3, 4}, []float32{1, 0}))
	b := written(t, s, 2, plainLoRA(t, 1, []float32{3, 4}, []float32{0, 1}))
	same := written(t, s, 3, plainLoRA(t, 1, []float32{3, 4}, []float32{1, 0}))
	wide := written(t, s, 4, plainLoRA(t, 2, []float32{3, 4}, []float32{1, 0}))
	d, err := Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	// A is unchanged; B turned by a right angle: distance √2 of length 1. Together: √2 of √26.
	if d.SameAdapter || len(d.Settings) > 0 || d.Tensors[0].Name != "x.lora_B.weight" || math.Abs(d.Tensors[0].Relative-math.Sqrt2) > 1e-6 || d.Tensors[0].Cosine != 0 ||
		d.Tensors[1].Relative != 0 || math.Abs(d.Adapter.Relative-math.Sqrt(2./26)) > 1e-6 || math.Abs(d.Adapter.Cosine-25./26) > 1e-6 {
		t.Errorf("%+v", d)
	}
	if d, err = Diff(a, same); err != nil || !d.SameAdapter || d.Adapter.Relative != 0 {
		t.Errorf("equal versions: %+v, %v", d, err)
	}
	if d, err = Diff(a, wide); err != nil || d.Tensors != nil || !slices.Equal(d.Settings, []string{"rank"}) {
		t.Errorf("another rank: %+v, %v", d, err)
	}
}

func TestServiceIsRememberedAndGarbageIsNot(t *testing.T) {
	s := store(t)
	var names []string
	for i := range 8 {
		names = append(names, written(t, s, i, plainLoRA(t, 1, []float32{1, 2}, []float32{float32(i), 1})).Name)
	}
	r, err := s.ReadService()
	if err != nil || r.Active() != "" || r.Before() != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, i := range []int{1, 2, 2} {
		if err := r.Note(Served{Version: names[i], Time: time.Unix(int64(i), 0).UTC(), Servers: []string{"one"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Pin(names[0], true); err != nil {
		t.Fatal(err)
	}
	if r, err = s.ReadService(); err != nil || r.Active() != names[2] || r.Before() != names[1] || len(r.History) != 3 {
		t.Fatalf("read back: %+v, %v", r, err)
	}
	gone, err := s.Garbage(2, []string{names[4]})
	if err != nil || !slices.Equal(gone, []string{names[3], names[5]}) {
		t.Errorf("garbage %v, %v", gone, err)
	}
	if err := s.Remove(names[3]); err != nil {
		t.Fatal(err)
	}
	if left, err := s.List(); err != nil || slices.Contains(left, names[3]) || len(left) != 7 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := s.Remove("../etc"); err == nil {
		t.Error("a path was taken for a version")
	}
	if err := os.WriteFile(filepath.Join(s.dir, serviceFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadService(); err == nil {
		t.Error("a broken record was read")
	}
}
