package adapters

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"

	"recpie/internal/fault"
	"recpie/internal/safetensors"
)

// Difference is what parts two versions.
type Difference struct {
	A, B        string
	SameAdapter bool         // the weights' files are the same
	SameSoft    bool         // so are the soft prompts'
	Settings    []string     // what differs in adapter_config.json: rank, alpha, target modules
	Tensors     []TensorDiff // of the adapter, the most changed first; nil where their shapes cannot be compared
	Adapter     TensorDiff   // all tensors together
	SoftRows    float64      // mean Euclidean distance of the users' rows, NaN without common shapes
	SoftNorm    float64      // mean length of the rows of A
}

// TensorDiff compares a tensor of two versions.
type TensorDiff struct {
	Name     string  `json:"name"`
	Relative float64 `json:"relative"` // ‖b − a‖ / ‖a‖, Frobenius norms; infinite where a is zero and b is not
	Cosine   float64 `json:"cosine"`   // of a and b as vectors, NaN where one is zero
}

// Diff compares two versions.
func Diff(a, b *Version) (*Difference, error) {
	d := &Difference{A: a.Name, B: b.Name, SameAdapter: a.Files[WeightsFile] == b.Files[WeightsFile], SameSoft: a.Files[SoftFile] == b.Files[SoftFile],
		SoftRows: math.NaN(), SoftNorm: math.NaN()}
	if a.HasAdapter() && b.HasAdapter() {
		if err := d.settings(a, b); err != nil {
			return nil, err
		}
		if err := d.weights(a, b); err != nil {
			return nil, err
		}
	}
	pa, err := a.SoftPrompt()
	if err != nil {
		return nil, err
	}
	pb, err := b.SoftPrompt()
	if err != nil || pa == nil || pb == nil {
		return d, err
	}
	return d, d.soft(pa, pb)
}

func (d *Difference) settings(a, b *Version) error {
	type config struct {
		Rank    int      `json:"r"`
		Alpha   float64  `json:"lora_alpha"`
		Modules []string `json:"target_modules"`
		Base    string   `json:"base_model_name_or_path"`
	}
	var c [2]config
	for i, v := range []*Version{a, b} {
		data, err := os.ReadFile(filepath.Join(v.Dir, ConfigFile))
		if err == nil {
			err = json.Unmarshal(data, &c[i])
		}
		if err != nil {
			return fault.New(fault.Fatal, "adapters: diff", err)
		}
		slices.Sort(c[i].Modules)
	}
	for name, same := range map[string]bool{"rank": c[0].Rank == c[1].Rank, "alpha": c[0].Alpha == c[1].Alpha, "base model": c[0].Base == c[1].Base,
		"target modules": slices.Equal(c[0].Modules, c[1].Modules)} {
		if !same {
			d.Settings = append(d.Settings, name)
		}
	}
	slices.Sort(d.Settings)
	return nil
}

// sums are what norms and angle are made of.
type sums struct{ aa, bb, ab, dd float64 }

func (s *sums) add(a, b []float32) {
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		s.aa, s.bb, s.ab, s.dd = s.aa+x*x, s.bb+y*y, s.ab+x*y, s.dd+(y-x)*(y-x)
	}
}

func (s sums) diff(name string) TensorDiff {
	t := TensorDiff{Name: name, Cosine: s.ab / math.Sqrt(s.aa*s.bb)}
	if s.dd > 0 {
		t.Relative = math.Sqrt(s.dd / s.aa)
	}
	return t
}

func (d *Difference) weights(a, b *Version) error {
	var files [2]*safetensors.File
	for i, v := range []*Version{a, b} {
		f, err := safetensors.Open(filepath.Join(v.Dir, WeightsFile))
		if err != nil {
			return fault.New(fault.Fatal, "adapters: diff", err)
		}
		defer f.Close()
		files[i] = f
	}
	var all sums
	for _, name := range files[0].Names() {
		x, sx, err := files[0].Float32(name)
		if err != nil {
			return fault.New(fault.Fatal, "adapters: diff", err)
		}
		y, sy, err := files[1].Float32(name)
		if err != nil || !slices.Equal(sx, sy) {
			d.Tensors = nil // other modules or another rank: the settings say so
			return nil
		}
		var one sums
		one.add(x, y)
		all.add(x, y)
		d.Tensors = append(d.Tensors, one.diff(name))
	}
	d.Adapter = all.diff("all")
	slices.SortStableFunc(d.Tensors, func(a, b TensorDiff) int { return cmp.Compare(b.Relative, a.Relative) })
	return nil
}

func (d *Difference) soft(a, b *SoftPrompt) error {
	ka, da := a.Shape()
	kb, db := b.Shape()
	n := min(a.Users(), b.Users())
	if ka != kb || da != db || n == 0 {
		return nil
	}
	dist, norm := 0.0, 0.0
	for user := range n {
		x, err := a.Rows(int32(user))
		if err != nil {
			return err
		}
		y, err := b.Rows(int32(user))
		if err != nil {
			return err
		}
		var s sums
		s.add(x, y)
		dist, norm = dist+math.Sqrt(s.dd), norm+math.Sqrt(s.aa)
	}
	d.SoftRows, d.SoftNorm = dist/float64(n), norm/float64(n)
	return nil
}
