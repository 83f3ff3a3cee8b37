package recommender

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/torch"
)

const (
	formatVersion = 2
	weightsFile   = "model.safetensors"
)

// ManifestFile is the file of a checkpoint that holds the digests of the weights and of what they were trained on: its bytes name the model.
const ManifestFile = "manifest.json"

// manifest describes a checkpoint: what the weights were trained on, and how inputs must be scaled for them.
type manifest struct {
	Format   int      `json:"format"`
	Settings Settings `json:"settings"`
	Seed     int64    `json:"seed"`
	Epochs   int      `json:"epochs"`
	Split    string   `json:"split_digest"`
	View     string   `json:"view_digest"`
	Users    int      `json:"users"`
	Items    int      `json:"items"`
	Features []string `json:"features"`
	Scale    scaler   `json:"feature_scale"`
	Bins     bins     `json:"feature_bins"`
	Around   scaler   `json:"text_scale"`
	SDScale  float64  `json:"sd_scale"`
	TextDim  int      `json:"explanation_dim"` // 0 = a network without explanations
	Texts    scaler   `json:"explanation_scale"`
	SHA256   string   `json:"sha256"` // of the weights file
}

// Save writes the model as a new folder dir that appears whole or not at all; a folder that exists already is an error. It holds
// the weights as safetensors and a manifest. The bias model and the features are not stored: they follow from the data, the split
// and the seed.
func (m *Model) Save(dir string) error {
	err := durable.ReplaceDir(dir, func(tmp string) error {
		var tensors []safetensors.Tensor
		for _, p := range m.params.Snapshot() {
			tensors = append(tensors, safetensors.F32(p.Name, p.Shape, p.Data))
		}
		weights := filepath.Join(tmp, weightsFile)
		if err := safetensors.WriteFile(weights, map[string]string{"format": "pt"}, tensors); err != nil {
			return err
		}
		sum, err := fileSHA(weights)
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(manifest{Format: formatVersion, Settings: m.settings, Seed: m.seed, Epochs: m.epochs,
			Split: m.data.View.Split().Digest, View: m.data.View.Digest(), Users: len(m.data.ds.Users), Items: len(m.data.ds.Items),
			Features: m.data.Features.Names, Scale: m.features, Bins: m.bins, Around: m.around, SDScale: m.sdScale, TextDim: m.textDim, Texts: m.texts, SHA256: sum}, "", "  ")
		if err != nil {
			return err
		}
		return durable.WriteFile(filepath.Join(tmp, ManifestFile), append(text, '\n'), 0o644)
	})
	return fault.New(fault.Fatal, "recommender: save", err)
}

// LoadModel reads a model that Save wrote and binds it to data, which must be of the view that the model was trained on. It checks
// the digests of the weights, the view and the names of the features.
func LoadModel(dir string, data *Data) (*Model, error) {
	m, err := load(dir, data)
	if err != nil {
		return nil, fault.New(fault.Fatal, "recommender: load "+dir, err)
	}
	return m, nil
}

func load(dir string, data *Data) (*Model, error) {
	text, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, err
	}
	var mf manifest
	if err := json.Unmarshal(text, &mf); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if err := mf.check(data); err != nil {
		return nil, err
	}
	weights := filepath.Join(dir, weightsFile)
	sum, err := fileSHA(weights)
	if err != nil {
		return nil, err
	}
	if sum != mf.SHA256 {
		return nil, fmt.Errorf("%s has sha256 %s, the manifest says %s", weightsFile, sum, mf.SHA256)
	}
	f, err := safetensors.Open(weights)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []torch.Named
	for _, name := range f.Names() {
		values, shape, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, torch.Named{Name: name, Shape: shape, Data: values})
	}
	m := &Model{settings: mf.Settings, data: data, seed: mf.Seed, epochs: mf.Epochs, features: mf.Scale, bins: mf.Bins, around: mf.Around, sdScale: mf.SDScale,
		texts: mf.Texts, textDim: mf.TextDim}
	if err := m.initialise(mf.Seed); err != nil {
		return nil, err
	}
	if err := m.params.Load(entries); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (mf *manifest) check(data *Data) error {
	if mf.Format != formatVersion {
		return fmt.Errorf("format %d, this program reads %d", mf.Format, formatVersion)
	}
	if err := mf.Settings.check(); err != nil {
		return err
	}
	switch {
	case mf.View != data.View.Digest():
		return fault.WithHint(fmt.Errorf("trained on view %.12s, the data are view %.12s", mf.View, data.View.Digest()),
			"load it with the data set and the split that it was trained on")
	case mf.Users != len(data.ds.Users) || mf.Items != len(data.ds.Items):
		return fmt.Errorf("%d users and %d items, the data have %d and %d", mf.Users, mf.Items, len(data.ds.Users), len(data.ds.Items))
	case !slices.Equal(mf.Features, data.Features.Names):
		return fmt.Errorf("its features are not those that this program computes")
	case !mf.Bins.fits(len(mf.Features)) || !mf.Around.fits(data.Text.Dim()) || !(mf.SDScale > 0):
		return fmt.Errorf("its encodings do not fit its inputs")
	case !mf.Scale.fits(len(mf.Features)) || mf.TextDim < 0 || !mf.Texts.fits(mf.TextDim):
		return fmt.Errorf("its scales do not fit its inputs")
	}
	return nil
}

func (s scaler) fits(dim int) bool {
	if len(s.Mean) != dim || len(s.SD) != dim {
		return false
	}
	for _, sd := range s.SD {
		if !(sd > 0) {
			return false
		}
	}
	return true
}

func (b bins) fits(features int) bool {
	if len(b.Edges) != features {
		return false
	}
	for _, e := range b.Edges {
		if len(e) < 2 || !slices.IsSorted(e) || !(e[0] < e[len(e)-1]) {
			return false
		}
	}
	return true
}

func fileSHA(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
