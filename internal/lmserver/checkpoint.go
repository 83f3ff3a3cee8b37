package lmserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/tinker"

	"golang.org/x/sys/unix"
)

const maxCheckpointName = 200 // a file name with its ending fits every file system

var (
	modelID      = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}:train:[0-9]{1,9}$`)
	errNotStored = errors.New("no such checkpoint")
)

// run describes a model for as long as its folder exists.
type run struct {
	ID        string            `json:"id"`
	BaseModel string            `json:"base_model"`
	LoRA      lm.LoRAConfig     `json:"lora"`
	Created   time.Time         `json:"created"`
	Meta      map[string]string `json:"user_metadata,omitempty"`
}

// checkpoint is the manifest of one saved state. The state exists exactly when its manifest does: the manifest is written last, and
// names the folder that holds the files.
type checkpoint struct {
	Run       run               `json:"run"`
	Kind      string            `json:"kind"` // tinker.KindWeights or tinker.KindSampler
	Name      string            `json:"name"`
	Data      string            `json:"data"` // folder below the run's data/
	Optimizer bool              `json:"optimizer"`
	Created   time.Time         `json:"created"`
	Expires   *time.Time        `json:"expires,omitempty"`
	Public    bool              `json:"public,omitempty"`
	Meta      map[string]string `json:"user_metadata,omitempty"`
}

func (c *checkpoint) path() tinker.Path {
	return tinker.Path{Model: c.Run.ID, Kind: c.Kind, Name: c.Name}
}

// checkpoints is the state folder:
//
//	lock                                    held while a server uses the folder
//	ephemeral/                              snapshots without a name; emptied at the start
//	sessions/{session}.json                 those that have not ended
//	runs/{model}/run.json
//	runs/{model}/state.json                 where the model is; names a folder below data/ too
//	runs/{model}/{weights,sampler_weights}/{name}.json   manifests
//	runs/{model}/data/{random}/             adapter files in the PEFT layout, optimizer.safetensors
type checkpoints struct {
	root string
	lock *os.File
	mu   sync.Mutex // manifests change one at a time
}

func openCheckpoints(root string) (*checkpoints, error) {
	abs, err := filepath.Abs(root)
	if err == nil {
		err = os.MkdirAll(filepath.Join(abs, "runs"), 0o700)
	}
	if err != nil {
		return nil, fault.New(fault.Fatal, "lmserver: state folder", err)
	}
	lock, err := os.OpenFile(filepath.Join(abs, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.Fatal, "lmserver: state folder", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "lmserver: state folder", "%s is in use by another server", root),
			"stop the other server, or give this one a folder of its own")
	}
	c := &checkpoints{root: abs, lock: lock}
	if err := c.clean(); err != nil {
		c.close()
		return nil, fault.New(fault.Fatal, "lmserver: state folder", err)
	}
	return c, nil
}

func (c *checkpoints) close() { _ = c.lock.Close() }

// clean removes what a crash left behind: unnamed snapshots and data folders without a manifest.
func (c *checkpoints) clean() error {
	if err := os.RemoveAll(c.ephemeral()); err != nil {
		return err
	}
	if err := os.MkdirAll(c.ephemeral(), 0o700); err != nil {
		return err
	}
	runs, err := c.runs()
	if err != nil {
		return err
	}
	for _, r := range runs {
		used := map[string]bool{}
		saved, err := c.list(r.ID)
		if err != nil {
			continue // a damaged manifest: what it may name stays
		}
		for _, ck := range saved {
			used[ck.Data] = true
		}
		kept, err := c.keptData(r.ID)
		if err != nil {
			continue
		}
		used[kept] = true
		entries, err := os.ReadDir(filepath.Join(c.dir(r.ID), "data"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if !used[e.Name()] {
				if err := os.RemoveAll(filepath.Join(c.dir(r.ID), "data", e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *checkpoints) ephemeral() string { return filepath.Join(c.root, "ephemeral") }

// dir is a run's folder. The id has passed modelID, so it names nothing else.
func (c *checkpoints) dir(id string) string {
	return filepath.Join(c.root, "runs", strings.ReplaceAll(id, ":", "."))
}

func (c *checkpoints) manifest(p tinker.Path) string {
	return filepath.Join(c.dir(p.Model), p.Kind, p.Name+".json")
}

// addRun makes a run's folders, durably.
func (c *checkpoints) addRun(r run) error {
	dir := c.dir(r.ID)
	for _, sub := range []string{"data", tinker.KindWeights, tinker.KindSampler} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return writeJSONFile(filepath.Join(dir, "run.json"), r)
}

// save makes a checkpoint of what create puts into a new folder, whole and synced. It is on disk when save returns nil; before that
// the name is absent or, with overwrite, as it was.
func (c *checkpoints) save(ck checkpoint, overwrite bool, create func(dir string) error) error {
	p := ck.path()
	if !tinker.ValidName(ck.Name) || len(ck.Name) > maxCheckpointName {
		return userError("%q is no name for a checkpoint: letters, digits, _ and -, at most %d", ck.Name, maxCheckpointName)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old, err := c.read(c.manifest(p))
	switch {
	case err == nil && !overwrite && !expired(old):
		return userError("%s exists already", p)
	case err != nil && !errors.Is(err, errNotStored):
		return err
	}
	ck.Data = newID("")
	if err := create(filepath.Join(c.dir(p.Model), "data", ck.Data)); err != nil {
		return err
	}
	failpoint.Hit("lmserver.save.data") // the data are there, nothing names them
	if err := writeJSONFile(c.manifest(p), ck); err != nil {
		return err
	}
	failpoint.Hit("lmserver.save.manifest") // saved, not yet acknowledged
	if old != nil {
		_ = os.RemoveAll(filepath.Join(c.dir(p.Model), "data", old.Data))
	}
	return nil
}

// get finds a checkpoint by its path and returns its folder.
func (c *checkpoints) get(path string) (*checkpoint, string, error) {
	p, err := tinker.ParsePath(path)
	if err != nil || p.Kind == "" || !modelID.MatchString(p.Model) {
		return nil, "", errNotStored
	}
	ck, err := c.read(c.manifest(p))
	if err != nil {
		return nil, "", err
	}
	if expired(ck) {
		return nil, "", errNotStored
	}
	return ck, filepath.Join(c.dir(p.Model), "data", ck.Data), nil
}

func expired(ck *checkpoint) bool { return ck.Expires != nil && time.Now().After(*ck.Expires) }

func (c *checkpoints) read(manifest string) (*checkpoint, error) {
	var ck checkpoint
	if err := readJSONFile(manifest, &ck); err != nil {
		return nil, err
	}
	if filepath.Base(ck.Data) != ck.Data || ck.Data == "" || ck.Data[0] == '.' {
		return nil, fmt.Errorf("checkpoint manifest %s is damaged", filepath.Base(manifest))
	}
	return &ck, nil
}

// change rewrites a checkpoint's manifest.
func (c *checkpoints) change(p tinker.Path, edit func(*checkpoint)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ck, err := c.read(c.manifest(p))
	if err != nil {
		return err
	}
	edit(ck)
	return writeJSONFile(c.manifest(p), ck)
}

// delete removes the manifest first: what is no longer named is no longer there.
func (c *checkpoints) delete(p tinker.Path) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ck, err := c.read(c.manifest(p))
	if err != nil {
		return err
	}
	if err := os.Remove(c.manifest(p)); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(c.manifest(p))); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(c.dir(p.Model), "data", ck.Data))
}

// list returns a run's checkpoints, oldest first.
func (c *checkpoints) list(id string) ([]checkpoint, error) {
	var out []checkpoint
	for _, kind := range []string{tinker.KindWeights, tinker.KindSampler} {
		files, err := filepath.Glob(filepath.Join(escapeGlob(c.dir(id)), kind, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			ck, err := c.read(file)
			if errors.Is(err, errNotStored) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			if !expired(ck) {
				out = append(out, *ck)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b checkpoint) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// escapeGlob keeps a folder's own name from being read as a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// runs returns every run on disk, oldest first.
func (c *checkpoints) runs() ([]run, error) {
	entries, err := os.ReadDir(filepath.Join(c.root, "runs"))
	if err != nil {
		return nil, err
	}
	var out []run
	for _, e := range entries {
		var r run
		err := readJSONFile(filepath.Join(c.root, "runs", e.Name(), "run.json"), &r)
		if err != nil {
			continue // a crash before the first write, or damaged: asked for by its name it says so
		}
		if modelID.MatchString(r.ID) && filepath.Base(c.dir(r.ID)) == e.Name() {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b run) int { return a.Created.Compare(b.Created) })
	return out, nil
}

func (c *checkpoints) run(id string) (*run, error) {
	if !modelID.MatchString(id) {
		return nil, errNotStored
	}
	var r run
	if err := readJSONFile(filepath.Join(c.dir(id), "run.json"), &r); err != nil {
		return nil, err
	}
	return &r, nil
}

func writeJSONFile(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

func readJSONFile(path string, v any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENAMETOOLONG) {
		return errNotStored
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
