package lmserver

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"recpie/internal/wire/tinker"
)

// Sessions and checkpoints as the official client's RestClient lists and changes them.

func (t *training) listSessions(w http.ResponseWriter, r *http.Request) {
	limit, offset := queryInt(r, "limit", 20), queryInt(r, "offset", 0)
	t.mu.Lock()
	var all []*session
	for _, s := range t.sessions {
		if !s.finished {
			all = append(all, s)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b *session) int { // newest first
		if c := b.begun.Compare(a.begun); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	ids := make([]string, 0, limit)
	for _, s := range all[min(offset, len(all)):min(offset+limit, len(all))] {
		ids = append(ids, s.id)
	}
	writeJSON(w, http.StatusOK, map[string]any{"sessions": ids})
}

func (t *training) getSession(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	s, ok := t.sessions[r.PathValue("id")]
	out := tinker.SessionView{TrainingRunIDs: []string{}, SamplerIDs: []string{}}
	if ok {
		out.UserMetadata = s.meta
		for id, m := range t.models {
			if m.session == s {
				out.TrainingRunIDs = append(out.TrainingRunIDs, id)
			}
		}
		for id, sm := range t.samplers {
			if sm.session == s {
				out.SamplerIDs = append(out.SamplerIDs, id)
			}
		}
	}
	t.mu.Unlock()
	if !ok {
		writeDetail(w, http.StatusNotFound, "unknown session %q", r.PathValue("id"))
		return
	}
	slices.Sort(out.TrainingRunIDs)
	slices.Sort(out.SamplerIDs)
	writeJSON(w, http.StatusOK, out)
}

// viewCheckpoint is a checkpoint as lists show it.
func (t *training) viewCheckpoint(ck *checkpoint) tinker.Checkpoint {
	view := tinker.Checkpoint{CheckpointID: ck.path().CheckpointID(), CheckpointType: "training", Time: ck.Created.Format(time.RFC3339Nano),
		TinkerPath: ck.path().String(), Public: ck.Public, UserMetadata: ck.Meta}
	if ck.Kind == tinker.KindSampler {
		view.CheckpointType = "sampler"
	}
	if ck.Expires != nil {
		view.ExpiresAt = ck.Expires.UTC().Format(time.RFC3339)
	}
	files, _ := os.ReadDir(filepath.Join(t.store.dir(ck.Run.ID), "data", ck.Data)) // gone meanwhile: its size is not told
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			view.SizeBytes += info.Size()
		}
	}
	return view
}

// listAllCheckpoints lists those of all runs, newest first.
func (t *training) listAllCheckpoints(w http.ResponseWriter, r *http.Request) {
	limit, offset := queryInt(r, "limit", 100), queryInt(r, "offset", 0)
	runs, err := t.store.runs()
	if err != nil {
		t.notStored(w, "training runs", err)
		return
	}
	var all []checkpoint
	for _, one := range runs {
		saved, err := t.store.list(one.ID)
		if err != nil {
			t.notStored(w, one.ID, err)
			return
		}
		all = append(all, saved...)
	}
	slices.SortStableFunc(all, func(a, b checkpoint) int { return b.Created.Compare(a.Created) })
	out := tinker.Checkpoints{Checkpoints: []tinker.Checkpoint{}, Cursor: &tinker.Cursor{Offset: offset, Limit: limit, TotalCount: len(all)}}
	page := all[min(offset, len(all)):min(offset+limit, len(all))]
	for i := range page {
		out.Checkpoints = append(out.Checkpoints, t.viewCheckpoint(&page[i]))
	}
	writeJSON(w, http.StatusOK, out)
}

// setTTL lets a checkpoint end after some seconds from now, or never with null.
func (t *training) setTTL(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Seconds *int64 `json:"ttl_seconds"`
	}
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	if req.Seconds != nil && (*req.Seconds < 1 || *req.Seconds > maxTTL) {
		writeDetail(w, http.StatusBadRequest, "ttl_seconds must be between 1 and %d, or null", maxTTL)
		return
	}
	t.editCheckpoint(w, r, func(ck *checkpoint) {
		if ck.Expires = nil; req.Seconds != nil {
			at := time.Now().UTC().Add(time.Duration(*req.Seconds) * time.Second)
			ck.Expires = &at
		}
	})
}

// setPublic notes whether a checkpoint is public. This server has one owner, so that it changes what lists say and nothing else.
func (t *training) setPublic(public bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := t.body(w, r); ok {
			t.editCheckpoint(w, r, func(ck *checkpoint) { ck.Public = public })
		}
	}
}

func (t *training) editCheckpoint(w http.ResponseWriter, r *http.Request, edit func(*checkpoint)) {
	path := addressed(r)
	ck, _, err := t.store.get(path)
	if err == nil {
		err = t.store.change(ck.path(), edit)
	}
	if err != nil {
		t.notStored(w, path, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
