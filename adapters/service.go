package adapters

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// serviceFile says, in a folder of versions, which of them was put into service by hand.
const serviceFile = "service.json"

// Service is the record of what was put into service, newest last, and of versions that are to be kept.
type Service struct {
	History []Served `json:"history"`
	Pinned  []string `json:"pinned,omitempty"`

	dir string
}

// Served is one publication.
type Served struct {
	Version string    `json:"version"`
	Digest  string    `json:"digest"` // of its adapter's weights, "" for soft prompts alone
	Time    time.Time `json:"time"`
	Servers []string  `json:"servers"`
}

// ReadService reads a store's record; a store without one has published nothing.
func (s *Store) ReadService() (*Service, error) {
	r := &Service{dir: s.dir}
	data, err := os.ReadFile(filepath.Join(s.dir, serviceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "adapters: "+serviceFile, err), "remove the file: the next publication begins a new record")
	}
	return r, nil
}

// Active is the version in service, "" when none is.
func (r *Service) Active() string {
	if len(r.History) == 0 {
		return ""
	}
	return r.History[len(r.History)-1].Version
}

// Before is the version that was in service before the active one, "" when none was.
func (r *Service) Before() string {
	active := r.Active()
	for _, s := range slices.Backward(r.History) {
		if s.Version != active {
			return s.Version
		}
	}
	return ""
}

// Note adds a publication, durably, before anyone is told of it.
func (r *Service) Note(s Served) error {
	r.History = append(r.History, s)
	failpoint.Hit("adapters.service.before-write")
	return r.write()
}

// Pin keeps a version from garbage collection, or no longer.
func (r *Service) Pin(name string, on bool) error {
	r.Pinned = slices.DeleteFunc(r.Pinned, func(n string) bool { return n == name })
	if on {
		r.Pinned = append(r.Pinned, name)
	}
	return r.write()
}

func (r *Service) write() error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = durable.WriteFile(filepath.Join(r.dir, serviceFile), append(text, '\n'), 0o644)
	}
	return fault.New(fault.Fatal, "adapters: "+serviceFile, err)
}

// Garbage returns the versions that may go: all but the newest keep, the active one and the one before it, the pinned, and those that others name.
func (s *Store) Garbage(keep int, named []string) ([]string, error) {
	names, err := s.List()
	if err != nil {
		return nil, err
	}
	r, err := s.ReadService()
	if err != nil {
		return nil, err
	}
	held := slices.Concat(named, r.Pinned, []string{r.Active(), r.Before()})
	var out []string
	for i, name := range names {
		if i < len(names)-keep && !slices.Contains(held, name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// Remove deletes a version: first its manifest, so that what is left of a broken removal is no version any more.
func (s *Store) Remove(name string) error {
	if !namePattern.MatchString(name) {
		return fault.Newf(fault.Fatal, op, "%q is not the name of a version", name)
	}
	dir := filepath.Join(s.dir, name)
	err := os.Remove(filepath.Join(dir, ManifestFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(dir)
	}
	return fault.New(fault.Fatal, op, err)
}
