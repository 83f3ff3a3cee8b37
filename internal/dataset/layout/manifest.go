package layout

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"recpie/internal/fault"
)

// Version is the form that this program writes, and the only one that it reads.
const Version = 1

// Names of the files of a folder.
const (
	ManifestName   = "manifest.json"
	SpecName       = "dataset.yaml"
	ItemsName      = "items.parquet"
	QuarantineName = "quarantine.jsonl"
)

// maxManifest bounds what is read of a manifest, in bytes.
const maxManifest = 64 << 20

const importAgain = "import the data again with 'recpie data import'"

var shardName = regexp.MustCompile(`^interactions-\d{5,}\.parquet$`)

// Manifest says what a folder holds and where it comes from. The same raw files, options and program give the same manifest.
type Manifest struct {
	Version    int            `json:"version"`
	Program    string         `json:"program"` // revision of the program that imported
	Source     Source         `json:"source"`
	Options    map[string]any `json:"options,omitempty"` // filters and limits that were asked for
	Counts     Counts         `json:"counts"`
	Outcomes   []string       `json:"outcomes"`    // columns of interactions that are outcomes, ascending
	ItemInputs []string       `json:"item_inputs"` // inputs that items.parquet holds
	ItemExtra  []string       `json:"item_extra"`  // those of them with a column of their own, in the order of the source
	Files      []File         `json:"files"`       // written files by name
}

// Source is what was imported.
type Source struct {
	Format string `json:"format"`
	Files  []File `json:"files"` // base names, in the order given
}

// File is a file with its content's digest.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Rows   int64  `json:"rows,omitempty"` // records, items or lines; of written files alone
}

// Counts says what became of the raw rows: Rows = Kept + Unrated + Broken + Duplicates + the sum of Filtered. Rows of items are counted apart.
type Counts struct {
	Rows       int64            `json:"rows"`
	Kept       int64            `json:"kept"`
	Unrated    int64            `json:"unrated"`    // without a rating
	Broken     int64            `json:"broken"`     // in the quarantine
	Duplicates int64            `json:"duplicates"` // replaced by a later row of the same pair
	Filtered   map[string]int64 `json:"filtered,omitempty"`
	Reasons    map[string]int64 `json:"broken_reasons,omitempty"` // of interactions and items
	Users      int64            `json:"users"`
	Items      int64            `json:"items"`        // in items.parquet
	Described  int64            `json:"described"`    // of them, with an entry in the source
	ItemRows   int64            `json:"item_rows"`    // of the source
	ItemBroken int64            `json:"item_broken"`  // of them, in the quarantine
	ItemTwice  int64            `json:"item_twice"`   // of them, further entries of an item: the first counts
	ItemLeft   int64            `json:"item_dropped"` // described, not kept by the filters
}

// String says what became of the rows, in one line.
func (c Counts) String() string {
	s := fmt.Sprintf("%d rows, %d kept, %d unrated, %d broken, %d duplicates", c.Rows, c.Kept, c.Unrated, c.Broken, c.Duplicates)
	for _, why := range slices.Sorted(maps.Keys(c.Filtered)) {
		s += fmt.Sprintf(", %d left out by %s", c.Filtered[why], why)
	}
	return s
}

// Shards lists the files of interactions in their order.
func (m *Manifest) Shards() []File {
	return slices.DeleteFunc(slices.Clone(m.Files), func(f File) bool { return !shardName.MatchString(f.Name) })
}

// File returns the entry of a written file.
func (m *Manifest) File(name string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// Is says whether a folder was imported or claims to be.
func Is(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ManifestName))
	return err == nil
}

// ReadManifest reads a folder's manifest and compares the sizes of the files that it names.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "dataset", err), importAgain)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset", err)
	}
	m, err := parseManifest(path, data)
	if err != nil {
		return nil, err
	}
	for _, want := range m.Files {
		info, err := os.Stat(filepath.Join(dir, want.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, damaged("%s: the file is missing", filepath.Join(dir, want.Name))
		case err != nil:
			return nil, fault.New(fault.Fatal, "dataset", err)
		case !info.Mode().IsRegular() || info.Size() != want.Bytes:
			return nil, damaged("%s: %d bytes, the manifest says %d", filepath.Join(dir, want.Name), info.Size(), want.Bytes)
		}
	}
	return m, nil
}

// damaged is an error of a folder that is not as it was written.
func damaged(format string, args ...any) error {
	return fault.WithHint(fault.Newf(fault.Fatal, "dataset", format, args...), importAgain)
}

func parseManifest(path string, data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, damaged("%s: larger than %d MiB", path, maxManifest>>20)
	}
	var version struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, damaged("%s: %w", path, err)
	}
	switch {
	case version.Version == nil:
		return nil, damaged(`%s: "version" is missing`, path)
	case *version.Version != Version:
		return nil, damaged("%s: version %d, this program reads %d", path, *version.Version, Version)
	}
	m := new(Manifest)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, damaged("%s: %w", path, err)
	}
	if why := m.flaw(); why != "" {
		return nil, damaged("%s: %s", path, why)
	}
	return m, nil
}

// flaw says what is wrong in a manifest, "" when nothing is.
func (m *Manifest) flaw() string {
	seen := make(map[string]bool)
	var rows int64
	for _, f := range m.Files {
		digest, err := hex.DecodeString(f.SHA256)
		switch {
		case f.Name != ItemsName && f.Name != QuarantineName && !shardName.MatchString(f.Name):
			return "files: unknown name " + quote(f.Name)
		case seen[f.Name]:
			return "files: " + f.Name + " is there twice"
		case err != nil || len(digest) != sha256.Size:
			return "files: " + f.Name + ": sha256 is not 64 hexadecimal digits"
		case f.Bytes < 0 || f.Rows < 0 || f.Rows > 1<<31-1:
			return "files: " + f.Name + ": bytes or rows are out of range"
		}
		seen[f.Name] = true
		if shardName.MatchString(f.Name) {
			rows += f.Rows
		}
	}
	if !slices.IsSortedFunc(m.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) }) {
		return "files: not in the order of their names"
	}
	items, ok := m.File(ItemsName)
	switch {
	case !ok:
		return "files: " + ItemsName + " is not named"
	case rows != m.Counts.Kept || rows > 1<<31-1:
		return "counts.kept is not the sum of the rows of the files of interactions"
	case items.Rows != m.Counts.Items:
		return "counts.items is not the number of rows of " + ItemsName
	}
	if why := columnsFlaw("outcomes", m.Outcomes, interactionColumns); why != "" {
		return why
	}
	return columnsFlaw("item_extra", m.ItemExtra, itemColumns)
}

func columnsFlaw(field string, names, reserved []string) string {
	seen := make(map[string]bool)
	for _, name := range names {
		if name == "" || seen[name] || slices.Contains(reserved, name) {
			return field + ": " + quote(name) + " is empty, there twice or the name of another column"
		}
		seen[name] = true
	}
	return ""
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return "?"
	}
	return string(b)
}

// Verify compares the digest of every file with the manifest.
func (m *Manifest) Verify(dir string) error {
	for _, want := range m.Files {
		path := filepath.Join(dir, want.Name)
		got, err := HashFile(path)
		if err != nil {
			return err
		}
		if got.SHA256 != want.SHA256 {
			return damaged("%s: SHA-256 %.12s…, the manifest says %.12s…", path, got.SHA256, want.SHA256)
		}
	}
	return nil
}

// HashFile returns base name, size and SHA-256 of a file.
func HashFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fault.New(fault.Fatal, "dataset", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	if err != nil {
		return File{}, fault.Newf(fault.Fatal, "dataset", "%s: %w", path, err)
	}
	return File{Name: filepath.Base(path), Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// Encode returns the bytes of manifest.json.
func (m *Manifest) Encode() ([]byte, error) {
	if why := m.flaw(); why != "" {
		return nil, fault.Newf(fault.Fatal, "dataset", "manifest: %s", why)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fault.New(fault.Fatal, "dataset: manifest", err)
	}
	return b.Bytes(), nil
}
