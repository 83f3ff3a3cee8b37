package importer

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"recpie/internal/dataset"
	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
)

// maxRaw is how much of a broken row the quarantine keeps, in bytes.
const maxRaw = 2048

// rejects collects the broken rows in a nameless file.
type rejects struct {
	mu     sync.Mutex
	f      *os.File
	w      *bufio.Writer
	enc    *json.Encoder
	lines  int64
	failed error
}

func newRejects(dir string) (*rejects, error) {
	f, err := nameless(dir)
	if err != nil {
		return nil, err
	}
	r := &rejects{f: f, w: bufio.NewWriter(f)}
	r.enc = json.NewEncoder(r.w)
	r.enc.SetEscapeHTML(false)
	return r, nil
}

func (r *rejects) close() { _ = r.f.Close() }

// add records a broken row. The file is named without its folder: the same rows are the same lines wherever they lie.
func (r *rejects) add(bad dataset.RowError, raw []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bad.File = filepath.Base(bad.File)
	bad.Value = cut(bad.Value, 80)
	err := r.enc.Encode(struct {
		dataset.RowError
		Raw string `json:"raw"`
	}{bad, cut(string(raw), maxRaw)})
	r.lines++
	if r.failed == nil {
		r.failed = fault.New(fault.Fatal, "import: quarantine", err)
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// write copies the lines to their place.
func (r *rejects) write(path string) (layout.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.failed, r.w.Flush()); err != nil {
		return layout.File{}, fault.New(fault.Fatal, "import: quarantine", err)
	}
	return writeFile(path, func(out io.Writer) (int64, error) {
		_, err := io.Copy(out, io.NewSectionReader(r.f, 0, 1<<62))
		return r.lines, err
	})
}
