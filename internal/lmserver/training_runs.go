package lmserver

import (
	"archive/tar"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"recpie/internal/wire/tinker"
)

// Read-only views for tooling, and the way adapter files leave the server.

func (t *training) view(r run, checkpoints []checkpoint) tinker.TrainingRun {
	last := r.Created
	for _, ck := range checkpoints {
		if ck.Created.After(last) {
			last = ck.Created
		}
	}
	t.mu.Lock()
	m := t.models[r.ID]
	t.mu.Unlock()
	if m != nil {
		m.mu.Lock()
		last = m.touched
		m.mu.Unlock()
	}
	view := tinker.TrainingRun{TrainingRunID: r.ID, BaseModel: r.BaseModel, ModelOwner: "local", IsLoRA: true, LoRARank: r.LoRA.Rank,
		LastRequestTime: last.UTC().Format(time.RFC3339), UserMetadata: r.Meta}
	for i := range checkpoints { // oldest first
		one := t.viewCheckpoint(&checkpoints[i])
		if checkpoints[i].Kind == tinker.KindSampler {
			view.LastSamplerCheckpoint = &one
		} else {
			view.LastCheckpoint = &one
		}
	}
	return view
}

func (t *training) listRuns(w http.ResponseWriter, r *http.Request) {
	limit, offset := queryInt(r, "limit", 20), queryInt(r, "offset", 0)
	runs, err := t.store.runs()
	if err != nil {
		t.notStored(w, "training runs", err)
		return
	}
	slices.Reverse(runs) // newest first
	total := len(runs)
	runs = runs[min(offset, total):min(offset+limit, total)]
	views := make([]tinker.TrainingRun, 0, len(runs))
	for _, one := range runs {
		saved, err := t.store.list(one.ID)
		if err != nil {
			t.notStored(w, one.ID, err)
			return
		}
		views = append(views, t.view(one, saved))
	}
	writeJSON(w, http.StatusOK, map[string]any{"training_runs": views,
		"cursor": tinker.Cursor{Offset: offset, Limit: limit, TotalCount: total}})
}

// queryInt reads a small non-negative number of the query, or the default.
func queryInt(r *http.Request, name string, def int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 || n > 1_000_000 {
		return def
	}
	return n
}

func (t *training) getRun(w http.ResponseWriter, r *http.Request) {
	one, saved, ok := t.savedRun(w, r.PathValue("id"))
	if ok {
		writeJSON(w, http.StatusOK, t.view(*one, saved))
	}
}

func (t *training) savedRun(w http.ResponseWriter, id string) (*run, []checkpoint, bool) {
	one, err := t.store.run(id)
	if err != nil {
		t.notStored(w, id, err)
		return nil, nil, false
	}
	saved, err := t.store.list(id)
	if err != nil {
		t.notStored(w, id, err)
		return nil, nil, false
	}
	return one, saved, true
}

func (t *training) listCheckpoints(w http.ResponseWriter, r *http.Request) {
	_, saved, ok := t.savedRun(w, r.PathValue("id"))
	if !ok {
		return
	}
	out := tinker.Checkpoints{Checkpoints: make([]tinker.Checkpoint, 0, len(saved))}
	for i := range saved {
		out.Checkpoints = append(out.Checkpoints, t.viewCheckpoint(&saved[i]))
	}
	writeJSON(w, http.StatusOK, out)
}

const tarBlock = 512

// addressed is the checkpoint a route names.
func addressed(r *http.Request) string {
	return tinker.Path{Model: r.PathValue("id"), Kind: r.PathValue("kind"), Name: r.PathValue("name")}.String()
}

func (t *training) deleteCheckpoint(w http.ResponseWriter, r *http.Request) {
	path := addressed(r)
	ck, _, err := t.store.get(path)
	if err == nil {
		err = t.store.delete(ck.path())
	}
	if err != nil {
		t.notStored(w, path, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// archive sends the adapter as a tar of regular files in the PEFT layout. The files are opened before the first byte, so a delete
// in between does not cut the stream.
func (t *training) archive(w http.ResponseWriter, r *http.Request) {
	path := addressed(r)
	ck, dir, err := t.store.get(path)
	if err != nil {
		t.notStored(w, path, err)
		return
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, name := range adapterFiles {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.notStored(w, path, err)
			return
		}
		files = append(files, f)
	}
	var headers []*tar.Header
	length := int64(2 * tarBlock) // the end mark
	for i, f := range files {
		info, err := f.Stat()
		if err != nil {
			t.notStored(w, path, err)
			return
		}
		headers = append(headers, &tar.Header{Name: adapterFiles[i], Mode: 0o644, Size: info.Size(), ModTime: ck.Created.Truncate(time.Second), Format: tar.FormatUSTAR})
		length += tarBlock + (info.Size()+tarBlock-1)/tarBlock*tarBlock
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10)) // a failure below leaves the body short, which the client notices
	out := tar.NewWriter(w)
	for i, f := range files {
		if out.WriteHeader(headers[i]) != nil {
			return
		}
		if _, err := io.CopyN(out, f, headers[i].Size); err != nil {
			return
		}
	}
	_ = out.Close()
}
