package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"recpie/adapters"
	"recpie/clients/transport"
	"recpie/config"
	"recpie/internal/batchfile"
	"recpie/internal/dataset"
	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/orchestrator"
	"recpie/prompts"
)

// job is a batch of explanations as its row in the database describes it: enough for any machine to work on it, and no secrets.
type job struct {
	Version string `json:"version"` // of the form
	Config  string `json:"config"`  // resolved settings, YAML
	Data    string `json:"data"`    // blob: the data folder
	Lines   string `json:"lines"`   // blob: the pairs asked for, JSON lines; "" for those of the split
	Author  string `json:"author"`  // digest of who writes

	Policy     string               `json:"policy,omitempty"`      // blob: the version of the policy that writes; "" for the base model
	PolicyName string               `json:"policy_name,omitempty"` // its name
	Served     string               `json:"served,omitempty"`      // folder of versions, as the servers see it
	Canaries   map[string][]float64 `json:"canaries,omitempty"`    // what the version answers, by kind of server; no part of the digest
}

const jobVersion = "recpie explain 1"

// task is a job made ready on this machine.
type task struct {
	c     *config.Config
	w     *orchestrator.Workspace
	asks  []orchestrator.Ask
	lines []batchfile.Line // what asked for them; nil for the pairs of the split
	of    []int32          // per ask, its line
	b     *backend
	batch *orchestrator.Batch

	version  *adapters.Version // of the policy that writes; nil: the base model
	served   string            // folder of versions, as the servers see it
	canaries map[string][]float64
	assured  *adapters.Assurance
}

func (t *task) close() {
	if t.b != nil {
		t.b.close()
	}
}

// newTask reads data and pairs. dir is the data folder, input the file of pairs or "".
func newTask(ctx context.Context, c *config.Config, dir, input, format string) (*task, error) {
	t := &task{c: c}
	ds, report, err := dataset.Load(ctx, dir, dataset.Options{})
	if err != nil {
		return nil, err
	}
	if input != "" {
		if ds, err = t.read(ctx, ds, input, format); err != nil {
			return nil, err
		}
	}
	s := dataSettings(c)
	s.TextOnly = true
	if t.w, err = orchestrator.PrepareData(ctx, ds, report, s); err != nil {
		return nil, err
	}
	if input == "" {
		t.asks = slices.Collect(orchestrator.Asks(t.w.Pairs()))
	}
	return t, nil
}

// read checks the lines of the input, reports all that is wrong before anything is sent, and puts the pairs into the data.
func (t *task) read(ctx context.Context, ds *dataset.Dataset, input, format string) (*dataset.Dataset, error) {
	in, err := batchfile.Open(input, format)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	users, items := map[string]int32{}, map[string]int32{}
	for i, u := range ds.Users {
		users[u] = int32(i)
	}
	for i, it := range ds.Items {
		items[it.ID] = int32(i)
	}
	check := batchfile.NewChecker()
	check.File(input)
	var pairs []dataset.Pair
	var unknown []error
	missing := 0
	for {
		line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err := check.Add(line, err); err != nil {
			return nil, err
		}
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		u, okU := users[line.User]
		i, okI := items[line.Item]
		if line.URL != "" || !okU || !okI {
			if missing++; len(unknown) < 20 {
				what := fmt.Sprintf("user %q", line.User)
				switch {
				case line.URL != "":
					what = "a request, not a pair:"
				case okU:
					what = fmt.Sprintf("item %q", line.Item)
				}
				unknown = append(unknown, fmt.Errorf("%s:%d: %s is not in the data", input, line.No, what))
			}
			continue
		}
		pairs = append(pairs, dataset.Pair{User: u, Item: i})
		t.lines = append(t.lines, line)
	}
	if err := check.Report().Err(); err != nil {
		return nil, &usageError{err}
	}
	if missing > 0 {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "input", "%d lines name nobody and nothing in the data:\n%w", missing, errors.Join(unknown...)), "mend the lines, or name the data they belong to with --data")}
	}
	if len(pairs) == 0 {
		return nil, &usageError{fault.Newf(fault.Fatal, "input", "%s holds no pair", input)}
	}
	with, recs, err := ds.WithCandidates(pairs)
	if err != nil {
		return nil, err
	}
	for k, r := range recs {
		for _, pol := range prompts.Polarities {
			if p := t.lines[k].Polarity; p == batchfile.Both || p == int8(pol) {
				t.asks, t.of = append(t.asks, orchestrator.Ask{Record: r, Polarity: pol}), append(t.of, int32(k))
			}
		}
	}
	return with, nil
}

// connect dials the servers, names the author, and has every server serve the author's version. local is the folder of versions on this
// machine, "" for none.
func (t *task) connect(ctx context.Context, state, local string, show *progress.Reporter) (err error) {
	t.c.Training.Frozen = true
	if err := t.locate(local); err != nil {
		return err
	}
	if err := t.install(local); err != nil {
		return err
	}
	if t.b, err = connect(ctx, t.c, t.w, state, local, show); err != nil {
		return err
	}
	who, newcomers, err := t.writes(t.b.base, t.b.baseID)
	if err != nil {
		return err
	}
	t.batch = &orchestrator.Batch{Writer: orchestrator.Writer{Work: t.w, Model: t.b.fleet, MaxTokens: t.c.Inference.MaxTokens}, Author: who}
	return t.adopt(ctx, newcomers, show)
}

// store puts what the job needs where put keeps it, by its digest, and returns the job's description and digest.
func (t *task) store(ctx context.Context, put func(context.Context, io.Reader) (string, error), dir string) (json.RawMessage, string, error) {
	text, err := t.c.Lasting().YAML()
	if err != nil {
		return nil, "", err
	}
	j := job{Version: jobVersion, Config: string(text), Author: t.batch.Author.Digest}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(orchestrator.PackData(dir, pw)) }()
	if j.Data, err = put(ctx, pr); err != nil {
		return nil, "", err
	}
	if t.lines != nil {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		for _, l := range t.lines {
			line := map[string]any{"user_id": l.User, "item_id": l.Item}
			if l.ID != "" {
				line["custom_id"] = l.ID
			}
			if l.Polarity != batchfile.Both {
				line["polarity"] = [2]string{"positive", "negative"}[l.Polarity]
			}
			if err := e.Encode(line); err != nil {
				return nil, "", fault.New(fault.Fatal, "input", err)
			}
		}
		if j.Lines, err = put(ctx, &b); err != nil {
			return nil, "", err
		}
	}
	if j.Policy, err = t.putVersion(ctx, put); err != nil {
		return nil, "", err
	}
	if j.Policy != "" {
		j.PolicyName, j.Served = t.version.Name, t.served
	}
	raw, err := json.Marshal(j)
	sum := sha256.Sum256(raw)
	if err == nil && t.assured != nil {
		j.Canaries = t.assured.Canaries()
		raw, err = json.Marshal(j)
	}
	return raw, hex.EncodeToString(sum[:]), err
}

// env names the variables that hold the servers' keys.
func (t *task) env() (names []string) {
	for _, e := range t.c.Inference.Endpoints {
		if e.KeyEnv != "" && !slices.Contains(names, e.KeyEnv) {
			names = append(names, e.KeyEnv)
		}
	}
	return names
}

// fetch makes a batch ready on a machine that knows nothing but the database, and where it has one, its own folder of versions.
func fetch(ctx context.Context, db *queue.DB, b queue.Batch, own string, show *progress.Reporter) (*task, error) {
	var j job
	if err := json.Unmarshal(b.Settings, &j); err != nil || j.Version != jobVersion {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "batch "+b.Name, "its settings are of form %q, this program knows %q", j.Version, jobVersion), "use the version of recpie that planned the batch")
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "batches", "data-"+j.Data[:min(len(j.Data), 16)])
	if !exists(dir) {
		r, err := db.Blob(ctx, j.Data)
		if err == nil {
			err = orchestrator.UnpackData(r, dir)
		}
		if err != nil && !exists(dir) { // another worker of this machine may have been first
			return nil, err
		}
	}
	settings := filepath.Join(cache, "batches", "config-"+b.Digest[:16]+".yaml")
	if err := durable.WriteFile(settings, []byte(j.Config), 0o644); err != nil {
		return nil, err
	}
	c, err := config.Load(config.Sources{File: settings})
	if err != nil {
		return nil, err
	}
	if len(c.Inference.Endpoints) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "batch "+b.Name, "it was planned for the embedded server of the machine that planned it"), "continue it there, or plan it with inference.endpoints")
	}
	input := ""
	if j.Lines != "" {
		input = filepath.Join(cache, "batches", "lines-"+j.Lines[:min(len(j.Lines), 16)]+".jsonl")
		if _, err := os.Stat(input); errors.Is(err, fs.ErrNotExist) {
			r, err := db.Blob(ctx, j.Lines)
			if err != nil {
				return nil, err
			}
			if err := durable.Write(input, 0o644, func(w io.Writer) error { _, err := io.Copy(w, r); return err }); err != nil {
				return nil, err
			}
		}
	}
	t, err := newTask(ctx, c, dir, input, batchfile.JSONL)
	if err != nil {
		return nil, err
	}
	if text := leaving(ctx, c, j.Policy != "" && c.Inference.SoftPrompts, nil); text != "" {
		show.Printf("batch %s: %s", b.Name, text)
	}
	local, err := t.fetchVersion(ctx, db, j, cache, own)
	if err == nil {
		err = t.connect(ctx, "", local, show)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	if t.batch.Author.Digest != j.Author {
		t.close()
		return nil, fault.Newf(fault.Fatal, "batch "+b.Name, "it was planned for %s, here %s writes", j.Author, t.batch.Author.Digest)
	}
	return t, nil
}

// dsn is the database of batches: that of the environment, or a file.
func dsn(file string) (string, error) {
	if url := os.Getenv("RECPIE_DATABASE_URL"); url != "" {
		return url, nil
	}
	if path := os.Getenv("RECPIE_DATABASE_URL_FILE"); path != "" {
		s, err := transport.SecretFromFile(path) // the address may hold a password
		return s.Reveal(), fault.New(fault.Fatal, "database", err)
	}
	return file, nil
}
