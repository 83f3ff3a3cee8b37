package lmserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// adapterHost holds LoRA adapters beside the base model, by key.
type adapterHost interface {
	LoadAdapter(key, dir string) error
	UnloadAdapter(key string) error
}

var (
	adapterName  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	adapterFiles = []string{"adapter_config.json", "adapter_model.safetensors"}

	errNoAdapter  = errors.New("no adapter found")
	errNotRegular = errors.New("not a regular file")
)

// adapter is one loaded version. Every load gets a key of its own, so that a name loaded again never meets the old one's cache.
type adapter struct {
	name, root string // public name; the path as the caller wrote it
	key        string
	uses       int  // running requests
	gone       bool // no longer listed: unload when uses is 0
}

// adapterSet maps public names to loaded versions. A version stays loaded until its last running request ends.
type adapterSet struct {
	host   adapterHost
	loadMu sync.Mutex // one load at a time

	mu     sync.Mutex
	listed []*adapter // in order of loading
	serial int
}

func newAdapterSet(host adapterHost) *adapterSet { return &adapterSet{host: host} }

func (set *adapterSet) list() []adapter {
	set.mu.Lock()
	defer set.mu.Unlock()
	out := make([]adapter, len(set.listed))
	for i, a := range set.listed {
		out[i] = *a
	}
	return out
}

func (set *adapterSet) find(name string) int {
	return slices.IndexFunc(set.listed, func(a *adapter) bool { return a.name == name })
}

// acquire returns the named version, held until release.
func (set *adapterSet) acquire(name string) (*adapter, bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	i := set.find(name)
	if i < 0 {
		return nil, false
	}
	set.listed[i].uses++
	return set.listed[i], true
}

func (set *adapterSet) release(a *adapter) {
	set.mu.Lock()
	a.uses--
	drop := a.gone && a.uses == 0
	set.mu.Unlock()
	if drop {
		_ = set.host.UnloadAdapter(a.key)
	}
}

// load loads the files in dir under a fresh key and lists them as name. With inPlace an earlier version of the name is replaced,
// only once the new one is loaded; without it an earlier version is an error that the caller has excluded.
func (set *adapterSet) load(name, root, dir string) error {
	set.loadMu.Lock()
	defer set.loadMu.Unlock()
	set.mu.Lock()
	set.serial++
	fresh := &adapter{name: name, root: root, key: fmt.Sprintf("%s#%d", name, set.serial)}
	set.mu.Unlock()
	if err := set.host.LoadAdapter(fresh.key, dir); err != nil {
		return err
	}
	set.mu.Lock()
	var old *adapter
	if i := set.find(name); i >= 0 {
		old = set.listed[i]
		set.listed[i] = fresh
	} else {
		set.listed = append(set.listed, fresh)
	}
	set.mu.Unlock()
	set.retire(old)
	return nil
}

func (set *adapterSet) unload(name string) bool {
	set.mu.Lock()
	i := set.find(name)
	var old *adapter
	if i >= 0 {
		old = set.listed[i]
		set.listed = slices.Delete(set.listed, i, i+1)
	}
	set.mu.Unlock()
	set.retire(old)
	return old != nil
}

func (set *adapterSet) retire(a *adapter) {
	if a == nil {
		return
	}
	set.mu.Lock()
	a.gone = true
	drop := a.uses == 0
	set.mu.Unlock()
	if drop {
		_ = set.host.UnloadAdapter(a.key)
	}
}

func checkRoot(root string) error {
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	return fault.New(fault.Fatal, "lmserver: adapter root", err)
}

// belowRoot turns a caller's path into one relative to the adapter root: itself when relative, else what follows the root. A path
// that is not below the root is reported as missing, so that nothing outside can be probed.
func belowRoot(root, path string) (string, error) {
	if !filepath.IsAbs(path) {
		if filepath.IsLocal(path) {
			return path, nil
		}
		return "", errNoAdapter
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return "", errNoAdapter
	}
	rel, err := filepath.Rel(abs, filepath.Clean(path))
	if err != nil || !filepath.IsLocal(rel) {
		return "", errNoAdapter
	}
	return rel, nil
}

// copyAdapter copies the adapter's files out of the root into a private folder, through os.Root, so that links cannot lead
// elsewhere and nobody can change the files between the check and the load.
func copyAdapter(rootDir, rel, dst string, limit int64) error {
	root, err := os.OpenRoot(rootDir)
	if err != nil {
		return errNoAdapter
	}
	defer root.Close()
	for _, name := range adapterFiles {
		src, err := root.Open(filepath.Join(rel, name))
		if err != nil {
			return errNoAdapter
		}
		limit, err = copyRegular(src, filepath.Join(dst, name), limit)
		if err != nil {
			return err
		}
	}
	return nil
}

func copyRegular(src *os.File, dst string, limit int64) (left int64, err error) {
	defer src.Close()
	info, err := src.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, errNotRegular
	}
	if info.Size() > limit {
		return 0, fmt.Errorf("the adapter is larger than the limit")
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(src, limit))
	return limit - n, errors.Join(err, out.Close())
}

func (s *Server) loadAdapter(w http.ResponseWriter, r *http.Request) {
	var req openai.LoadLoRARequest
	if err := s.decode(r, &req); err != nil {
		writeError(w, err)
		return
	}
	switch {
	case req.Name == nil:
		writeError(w, missing("body.lora_name"))
	case req.Path == nil:
		writeError(w, missing("body.lora_path"))
	default:
		if err := s.addAdapter(*req.Name, *req.Path, or(req.Inplace, false)); err != nil {
			writeError(w, err)
			return
		}
		s.opt.Log.Info("adapter loaded", "name", *req.Name)
		plain(w, "Success: LoRA adapter '%s' added successfully.", *req.Name)
	}
}

func (s *Server) addAdapter(name, path string, inPlace bool) error {
	invalid := func(format string, args ...any) error {
		return &apiError{http.StatusBadRequest, "InvalidUserInput", "", fmt.Sprintf(format, args...)}
	}
	switch {
	case name == "" || path == "":
		return invalid("Both 'lora_name' and 'lora_path' must be provided.")
	case name == s.base:
		return invalid("The lora adapter '%s' conflicts with a served base model.", name)
	case !adapterName.MatchString(name):
		return invalid("The lora adapter name must match %s.", adapterName)
	}
	if a, ok := s.adapters.acquire(name); ok {
		s.adapters.release(a)
		if !inPlace {
			return invalid("The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.", name)
		}
	}
	tmp, err := os.MkdirTemp("", "recpie-adapter-")
	if err != nil {
		return &apiError{http.StatusInternalServerError, "InternalServerError", "", "no room for a copy of the adapter"}
	}
	defer os.RemoveAll(tmp)
	rel, err := belowRoot(s.opt.AdapterRoot, path)
	if err == nil {
		err = copyAdapter(s.opt.AdapterRoot, rel, tmp, s.opt.MaxAdapter)
	}
	if errors.Is(err, errNoAdapter) {
		return &apiError{http.StatusNotFound, "NotFoundError", "", fmt.Sprintf("Loading lora %s failed: No adapter found for %s", name, path)}
	}
	if err == nil {
		err = s.adapters.load(name, path, tmp)
	}
	if err != nil {
		return &apiError{http.StatusInternalServerError, "InternalServerError", "", fmt.Sprintf(
			"Call to add_lora method failed: Worker failed with error '%s', please check the stack trace above for the root cause",
			strings.ReplaceAll(err.Error(), tmp, path))}
	}
	return nil
}

func (s *Server) unloadAdapter(w http.ResponseWriter, r *http.Request) {
	var req openai.UnloadLoRARequest
	if err := s.decode(r, &req); err != nil {
		writeError(w, err)
		return
	}
	switch {
	case req.Name == nil:
		writeError(w, missing("body.lora_name"))
	case *req.Name == "":
		writeError(w, &apiError{http.StatusBadRequest, "InvalidUserInput", "", "'lora_name' needs to be provided to unload a LoRA adapter."})
	case !s.adapters.unload(*req.Name):
		writeError(w, &apiError{http.StatusNotFound, "NotFoundError", "", fmt.Sprintf("The lora adapter '%s' cannot be found.", *req.Name)})
	default:
		plain(w, "Success: LoRA adapter '%s' removed successfully.", *req.Name)
	}
}

// plain answers 200 with text and no Content-Type, as vLLM's LoRA routes do.
func plain(w http.ResponseWriter, format string, args ...any) {
	w.Header()["Content-Type"] = nil
	_, _ = fmt.Fprintf(w, format, args...)
}
