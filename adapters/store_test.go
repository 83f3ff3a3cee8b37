package adapters

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"recpie/internal/safetensors"
	"recpie/internal/softrow"
)

// writeLoRA makes a folder with a tiny adapter whose B matrix holds b.
func writeLoRA(t testing.TB, b float32) string {
	t.Helper()
	dir := t.TempDir()
	config := `{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["c_attn"]}`
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	const prefix = "base_model.model.transformer.h.0.attn.c_attn."
	err := safetensors.WriteFile(filepath.Join(dir, WeightsFile), nil, []safetensors.Tensor{
		safetensors.F32(prefix+"lora_A.weight", []int64{2, 3}, []float32{1, 2, 3, 4, 5, 6}),
		safetensors.F32(prefix+"lora_B.weight", []int64{1, 2}, []float32{b, b}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "optimizer.pt"), []byte("not wanted"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func softPrompt(t testing.TB) *SoftPrompt {
	t.Helper()
	p, err := NewSoftPrompt(softrow.Projection{
		Rows: 2, Hidden: 3, Dim: 2, Norm: 1.25, W: []float32{1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, .5}, B: []float32{.1, .2, .3, .4, .5, .6},
	}, []float32{1, 0, 0, 1, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openStore(t testing.TB) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "adapters"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *Store, number int, lora string, soft *SoftPrompt) *Version {
	t.Helper()
	v, err := s.Write(number, Lineage{Run: "r", Round: 1, Step: number, SplitDigest: "d"}, lora, soft)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVersionsComeBackAsTheyWere(t *testing.T) {
	s := openStore(t)
	soft := softPrompt(t)
	v := write(t, s, 7, writeLoRA(t, .5), soft)
	if !strings.HasPrefix(v.Name, "policy-v000007-") || !namePattern.MatchString(v.Name) || v.ZeroB || !v.HasAdapter() {
		t.Errorf("%+v", v.Manifest)
	}
	entries, err := os.ReadDir(v.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		files = append(files, e.Name())
	}
	if want := []string{ConfigFile, WeightsFile, ManifestFile, SoftFile}; !reflect.DeepEqual(files, want) {
		t.Errorf("files %v, want %v", files, want)
	}
	again, err := s.Open(v.Name)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, v) {
		t.Errorf("opened %+v, wrote %+v", again, v)
	}
	got, err := again.SoftPrompt()
	if err != nil {
		t.Fatal(err)
	}
	for user := range int32(4) {
		a, errA := soft.Rows(user)
		b, errB := got.Rows(user)
		if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("user %d: %v %v, %v %v", user, a, errA, b, errB)
		}
	}
	zero := write(t, s, 8, writeLoRA(t, 0), nil)
	if !zero.ZeroB {
		t.Error("a zero B was not seen")
	}
	if p, err := zero.SoftPrompt(); p != nil || err != nil {
		t.Errorf("soft prompt of a version without one: %v, %v", p, err)
	}
	names, err := s.List()
	if err != nil || !reflect.DeepEqual(names, []string{v.Name, zero.Name}) {
		t.Errorf("list %v, %v", names, err)
	}
}

func TestVersionsAreNeverOverwritten(t *testing.T) {
	s := openStore(t)
	lora := writeLoRA(t, .5)
	a := write(t, s, 1, lora, nil)
	info, err := os.Stat(filepath.Join(a.Dir, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	b := write(t, s, 1, lora, nil)
	after, err := os.Stat(filepath.Join(a.Dir, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != b.Name || !os.SameFile(info, after) || info.ModTime() != after.ModTime() {
		t.Error("the same content was written a second time")
	}
	if c := write(t, s, 1, writeLoRA(t, .25), nil); c.Name == a.Name {
		t.Error("other content has the same name")
	}
	if err := os.WriteFile(filepath.Join(a.Dir, WeightsFile), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(1, a.Lineage, lora, nil); err == nil {
		t.Error("a damaged version was taken or replaced")
	}
}

func TestDamageIsFound(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"changed weights":  func(d string) error { return os.WriteFile(filepath.Join(d, WeightsFile), []byte("x"), 0o644) },
		"missing weights":  func(d string) error { return os.Remove(filepath.Join(d, WeightsFile)) },
		"missing manifest": func(d string) error { return os.Remove(filepath.Join(d, ManifestFile)) },
		"bad manifest":     func(d string) error { return os.WriteFile(filepath.Join(d, ManifestFile), []byte("{"), 0o644) },
		"foreign manifest": func(d string) error {
			return os.WriteFile(filepath.Join(d, ManifestFile), []byte(`{"name":"policy-v000001-00000000"}`), 0o644)
		},
		"symlink elsewhere": func(d string) error {
			_ = os.Remove(filepath.Join(d, ConfigFile))
			return os.Symlink("/etc/hostname", filepath.Join(d, ConfigFile))
		},
	} {
		s := openStore(t)
		v := write(t, s, 1, writeLoRA(t, .5), nil)
		if err := damage(v.Dir); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(v.Name); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestNamesArePaths(t *testing.T) {
	s := openStore(t)
	for _, name := range []string{"", "..", "../x", "/etc", "policy-v1-abc", "policy-v000001-abcdefg\x00", "policy-v000001-ABCDEF01", "policy-v000001-abcdef01/..", "policy‐v000001-abcdef01"} {
		if _, err := s.Open(name); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
}

func TestBadContentIsRefused(t *testing.T) {
	s := openStore(t)
	nan := writeLoRA(t, float32(math.NaN()))
	noConfig, notLoRA, empty := writeLoRA(t, 1), writeLoRA(t, 1), writeLoRA(t, 1)
	_ = os.Remove(filepath.Join(noConfig, ConfigFile))
	_ = os.WriteFile(filepath.Join(notLoRA, ConfigFile), []byte(`{"peft_type":"IA3"}`), 0o644)
	_ = safetensors.WriteFile(filepath.Join(empty, WeightsFile), nil, []safetensors.Tensor{safetensors.F32("x", []int64{1}, []float32{1})})
	for name, dir := range map[string]string{"NaN": nan, "no config": noConfig, "not a LoRA": notLoRA, "no matrices": empty, "no folder": "does/not/exist", "nothing": ""} {
		if _, err := s.Write(1, Lineage{}, dir, nil); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if _, err := s.Write(-1, Lineage{}, writeLoRA(t, 1), nil); err == nil {
		t.Error("a negative number was taken")
	}
	if names, err := s.List(); err != nil || len(names) != 0 {
		t.Errorf("something was left: %v, %v", names, err)
	}
}

// A user of the snapshot gets the rows of its embedding, another those of the zero embedding.
func TestRowsFollowTheSnapshot(t *testing.T) {
	p := softPrompt(t)
	for user, e := range map[int32][]float32{-1: {0, 0}, 0: {1, 0}, 1: {0, 1}, 2: {1, 1}, 3: {0, 0}, 99: {0, 0}} {
		rows, err := p.Rows(user)
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.proj.Forward(e)
		if err != nil || !reflect.DeepEqual(rows, want) {
			t.Errorf("user %d: %v, want %v (%v)", user, rows, want, err)
		}
	}
}

func TestSoftPromptRefusesWhatDoesNotFit(t *testing.T) {
	nan := float32(math.NaN())
	one := []float32{1}
	for i, c := range []struct {
		proj  softrow.Projection
		table []float32
	}{
		{softrow.Projection{Rows: 1, Hidden: 1, Dim: 1, Norm: 1, W: []float32{nan}, B: one}, nil},
		{softrow.Projection{Rows: 1, Hidden: 1, Dim: 1, Norm: 1, W: one, B: []float32{nan}}, nil},
		{softrow.Projection{Rows: 1, Hidden: 1, Dim: 1, Norm: 1, W: one, B: one}, []float32{nan}},
		{softrow.Projection{Rows: 1, Hidden: 1, Dim: 1, Norm: math.NaN(), W: one, B: one}, nil},
		{softrow.Projection{Rows: 1, Hidden: 2, Dim: 1, Norm: 1, W: one, B: []float32{0, 0}}, nil},
		{softrow.Projection{Rows: 1, Hidden: 1, Dim: 2, Norm: 1, W: []float32{1, 1}, B: one}, one},
		{softrow.Projection{Hidden: 1, Dim: 1, Norm: 1}, nil},
	} {
		if _, err := NewSoftPrompt(c.proj, c.table); err == nil {
			t.Errorf("case %d was taken", i)
		}
	}
}

// FuzzManifest: whatever a version's manifest says, it is opened as what its files are, or not.
func FuzzManifest(f *testing.F) {
	s := openStore(f)
	v := write(f, s, 7, writeLoRA(f, .5), softPrompt(f))
	path := filepath.Join(v.Dir, ManifestFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(strings.Replace(string(whole), "sha256", "md5", 1)))
	f.Add([]byte(`{"name":"` + v.Name + `","files":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Open(v.Name)
		if err != nil {
			return
		}
		for name, digest := range v.Files {
			if got.Name != v.Name || got.Files[name] != digest {
				t.Fatalf("%s opens as %+v", text, got.Manifest)
			}
		}
	})
}

// Whatever the bytes, reading a soft prompt gives one that fits or an error.
func FuzzParseSoftPrompt(f *testing.F) {
	var b strings.Builder
	if err := softPrompt(f).write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(b.String()))
	f.Add([]byte(strings.Replace(b.String(), `"rows":"2"`, `"rows":"0"`, 1)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseSoftPrompt(data)
		if err != nil {
			return
		}
		rows, hidden := p.Shape()
		if got, err := p.Rows(0); err == nil && len(got) != rows*hidden {
			t.Fatal(fmt.Sprint(len(got), rows, hidden))
		}
	})
}
