package adapters

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
)

// Names of the files of a version.
const (
	ConfigFile   = "adapter_config.json"
	WeightsFile  = "adapter_model.safetensors"
	SoftFile     = "soft_prompt.safetensors"
	ManifestFile = "manifest.json"
)

const (
	maxConfig = 1 << 20
	op        = "adapters: store"
)

// namePattern is what a version may be called; servers build paths of it.
var namePattern = regexp.MustCompile(`^policy-v\d{6}-[0-9a-f]{8}$`)

// IsName tells whether a name has the form of a version's.
func IsName(name string) bool { return namePattern.MatchString(name) }

// Lineage says where a version comes from.
type Lineage struct {
	Run         string `json:"run"`
	Base        string `json:"base,omitempty"` // what tells the base model that it was trained on from others
	Round       int    `json:"round"`
	Step        int    `json:"step"`
	SplitDigest string `json:"split_digest"`
	Parent      string `json:"parent,omitempty"` // name of the version before, "" for the first
}

// Manifest is manifest.json.
type Manifest struct {
	Name    string            `json:"name"`
	Number  int               `json:"number"`
	Lineage Lineage           `json:"lineage"`
	Files   map[string]string `json:"files"`  // SHA-256 in hex by file name
	ZeroB   bool              `json:"zero_b"` // the LoRA's B is zero, so the adapter changes nothing yet
}

// Version is one version on disk.
type Version struct {
	Dir string
	Manifest
}

// HasAdapter says whether the version has LoRA files for a server to load.
func (v *Version) HasAdapter() bool { return v.Files[WeightsFile] != "" }

// Store is a folder of versions.
type Store struct{ dir string }

// OpenStore opens the folder, making it when it is not there.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	return &Store{dir}, nil
}

// Write makes version number of the LoRA files in loraDir ("" for none; other files there are left out) and a soft prompt (nil for none). The version
// appears whole or not at all, and none is ever overwritten: when the same content with the same lineage is there already, as after
// a crash, that version is verified and returned; a damaged one is an error.
func (s *Store) Write(number int, from Lineage, loraDir string, soft *SoftPrompt) (*Version, error) {
	if number < 0 || number > 999999 {
		return nil, fault.Newf(fault.Fatal, op, "version number %d is not in [0, 999999]", number)
	}
	if loraDir == "" && soft == nil {
		return nil, fault.Newf(fault.Fatal, op, "version %d has neither LoRA files nor a soft prompt", number)
	}
	m := Manifest{Number: number, Lineage: from, Files: map[string]string{}}
	var lora map[string][]byte
	if loraDir != "" {
		var err error
		if lora, m.ZeroB, err = readLoRA(loraDir); err != nil {
			return nil, err
		}
		for name, data := range lora {
			m.Files[name] = digest(data)
		}
	}
	if soft != nil {
		h := sha256.New()
		if err := soft.write(h); err != nil {
			return nil, fault.New(fault.Fatal, op, err)
		}
		m.Files[SoftFile] = hex.EncodeToString(h.Sum(nil))
	}
	content, err := json.Marshal(m) // without the name; encoding/json sorts the files
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	m.Name = fmt.Sprintf("policy-v%06d-%s", number, digest(content)[:8])
	final := filepath.Join(s.dir, m.Name)
	if _, err := os.Lstat(final); err == nil {
		return s.Open(m.Name)
	}
	err = durable.ReplaceDir(final, func(dir string) error {
		for name, data := range lora {
			if err := durable.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				return err
			}
		}
		if soft != nil {
			if err := durable.Write(filepath.Join(dir, SoftFile), 0o644, soft.write); err != nil {
				return err
			}
		}
		text, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return err
		}
		failpoint.Hit("adapters.write.before-manifest")
		return durable.WriteFile(filepath.Join(dir, ManifestFile), append(text, '\n'), 0o644)
	})
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	return &Version{final, m}, nil
}

// Open returns a version after checking every file against its digest.
func (s *Store) Open(name string) (*Version, error) {
	if !namePattern.MatchString(name) {
		return nil, fault.Newf(fault.Fatal, op, "%q is not the name of a version", name)
	}
	root, err := os.OpenRoot(filepath.Join(s.dir, name))
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	defer root.Close()
	text, err := readCapped(root, ManifestFile, maxConfig)
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	v := &Version{Dir: filepath.Join(s.dir, name)}
	if err := json.Unmarshal(text, &v.Manifest); err != nil {
		return nil, fault.Newf(fault.Fatal, op, "%s: manifest: %w", name, err)
	}
	if v.Name != name {
		return nil, fault.Newf(fault.Fatal, op, "folder %s holds the manifest of %q", name, v.Name)
	}
	for _, file := range []string{ConfigFile, WeightsFile, SoftFile} {
		want, listed := v.Files[file]
		got, err := digestFile(root, file)
		switch {
		case !listed && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fault.Newf(fault.Fatal, op, "%s: %w", name, err)
		case got != want:
			return nil, fault.WithHint(fault.Newf(fault.Fatal, op, "%s: %s has digest %.12s…, the manifest says %.12s…", name, file, got, want),
				"the version is damaged; remove its folder and resume from the checkpoint before it")
		}
	}
	return v, nil
}

// List returns the names of all versions in ascending order.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && namePattern.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// SoftPrompt reads the version's soft prompt, nil when it has none.
func (v *Version) SoftPrompt() (*SoftPrompt, error) {
	if v.Files[SoftFile] == "" {
		return nil, nil
	}
	data, err := os.ReadFile(filepath.Join(v.Dir, SoftFile))
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	if got := digest(data); got != v.Files[SoftFile] {
		return nil, fault.Newf(fault.Fatal, op, "%s: %s changed after it was opened", v.Name, SoftFile)
	}
	return parseSoftPrompt(data)
}

// readLoRA reads and checks the two PEFT files. zeroB says that every B matrix is zero, as before the first step.
func readLoRA(dir string) (files map[string][]byte, zeroB bool, err error) {
	bad := func(err error) (map[string][]byte, bool, error) { return nil, false, fault.New(fault.Fatal, op, err) }
	root, err := os.OpenRoot(dir)
	if err != nil {
		return bad(err)
	}
	defer root.Close()
	config, err := readCapped(root, ConfigFile, maxConfig)
	if err != nil {
		return bad(err)
	}
	var c struct {
		Type string `json:"peft_type"`
		Rank int    `json:"r"`
	}
	if err := json.Unmarshal(config, &c); err != nil || c.Type != "LORA" || c.Rank < 1 {
		return bad(fmt.Errorf("%s: type %q, rank %d: a LoRA is expected (%v)", ConfigFile, c.Type, c.Rank, err))
	}
	weights, err := readCapped(root, WeightsFile, 8<<30)
	if err != nil {
		return bad(err)
	}
	f, err := safetensors.Parse(weights)
	if err != nil {
		return bad(err)
	}
	defer f.Close()
	if zeroB, err = checkWeights(f); err != nil {
		return bad(err)
	}
	return map[string][]byte{ConfigFile: config, WeightsFile: weights}, zeroB, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func digestFile(root *os.Root, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// readCapped reads a regular file of at most limit bytes.
func readCapped(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", name, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
