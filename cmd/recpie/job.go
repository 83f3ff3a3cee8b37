package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
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
)

// job is a batch of explanations as its row in the database describes it: enough for any machine to work on it, and no secrets.
type job struct {
	Version string `json:"version"` // of the form
	Config  string `json:"config"`  // resolved settings, YAML
	Data    string `json:"data"`    // blob: the data folder; "" for requests
	Lines   string `json:"lines"`   // blob: the pairs or requests, JSON lines; "" for the pairs of the split
	Author  string `json:"author"`  // digest of who writes
	Model   string `json:"model"`   // the name that this has on the servers

	Profiles   string               `json:"profiles,omitempty"`    // blob: profiles that a model wrote for the planner
	Policy     string               `json:"policy,omitempty"`      // blob: the version of the policy that writes; "" for the base model
	PolicyName string               `json:"policy_name,omitempty"` // its name
	Served     string               `json:"served,omitempty"`      // folder of versions, as the servers see it
	Canaries   map[string][]float64 `json:"canaries,omitempty"`    // what the version answers, by kind of server; no part of the digest
}

const jobVersion = "recpie explain 1"

// task is a job made ready on this machine: pairs of the data, or requests as somebody wrote them.
type task struct {
	c     *config.Config
	w     *orchestrator.Workspace // nil for requests, which need no data
	dir   string                  // of the data
	asks  asked
	given bool      // the pairs come from an input, not from the split
	reqs  *requests // nil for pairs
	b     *backend
	batch *orchestrator.Batch // of pairs, once connected
	calls *orchestrator.Requests
	model string // name of who writes

	version  *adapters.Version // of the policy that writes; nil: the base model
	served   string            // folder of versions, as the servers see it
	canaries map[string][]float64
	assured  *adapters.Assurance
}

func (t *task) close() {
	if t.b != nil {
		t.b.close()
	}
	_ = t.asks.ids.Close() // temporary files
	if t.reqs != nil {
		_ = t.reqs.lines.Close()
	}
}

// handler answers the rows.
func (t *task) handler() queue.Handler {
	if t.reqs != nil {
		return t.calls
	}
	return t.batch
}

// rows is how many rows the batch has.
func (t *task) rows() int {
	if t.reqs != nil {
		return t.reqs.rows()
	}
	return t.asks.rows()
}

// inputs are the rows to plan.
func (t *task) inputs() iter.Seq2[queue.Input, error] {
	if t.reqs != nil {
		return t.calls.Inputs(int64(t.reqs.rows()))
	}
	return t.batch.Inputs(t.asks.all())
}

// source is where pairs or requests come from.
type source struct {
	path, format string   // path "": the pairs of the split
	aliases      []string // names in requests that mean the served model
}

// newTask reads the input, and the data unless the input holds requests. folder names the data folder when it is needed.
func newTask(ctx context.Context, c *config.Config, folder func() (string, error), in source) (_ *task, err error) {
	t := &task{c: c, given: in.path != ""}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	var ds *dataset.Dataset
	var report *dataset.Report
	load := func() (*dataset.Dataset, error) {
		if t.dir, err = folder(); err == nil {
			ds, report, err = dataset.Load(ctx, t.dir, dataset.Options{})
		}
		return ds, err
	}
	if !t.given {
		ds, err = load()
	} else {
		ds, err = t.read(ctx, load, in)
	}
	if err != nil || t.reqs != nil {
		return t, err
	}
	if err := t.prepare(ctx, ds, report); err != nil {
		return t, err
	}
	if !t.given {
		t.asks.recs = t.w.Pairs()
	}
	return t, nil
}

// prepare makes what prompts need of the data.
func (t *task) prepare(ctx context.Context, ds *dataset.Dataset, report *dataset.Report) (err error) {
	s := dataSettings(t.c)
	s.TextOnly = true
	t.w, err = orchestrator.PrepareData(ctx, ds, report, s)
	return err
}

// read checks the lines of the input, reports all that is wrong before anything is sent, and puts the pairs into the data, which is
// loaded at the first of them.
func (t *task) read(ctx context.Context, load func() (*dataset.Dataset, error), src source) (*dataset.Dataset, error) {
	in, err := batchfile.Open(src.path, src.format)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var ds *dataset.Dataset
	users, items := map[string]int32{}, map[string]int32{}
	check := batchfile.NewChecker()
	check.File(src.path)
	var pairs []dataset.Pair
	var unknown []error
	missing := 0
	for {
		line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && line.URL != "" {
			err = line.Settle(src.path, batchfile.Model{Name: t.c.Inference.Model, Aliases: src.aliases})
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
		if line.URL != "" {
			if t.reqs == nil {
				if t.reqs, err = newRequests(); err != nil {
					return nil, err
				}
			}
			if err := t.reqs.add(line); err != nil {
				return nil, err
			}
			continue
		}
		if ds == nil {
			if ds, err = load(); err != nil {
				return nil, err
			}
			for i, u := range ds.Users {
				users[u] = int32(i)
			}
			for i, it := range ds.Items {
				items[it.ID] = int32(i)
			}
		}
		u, okU := users[line.User]
		i, okI := items[line.Item]
		if !okU || !okI {
			if missing++; len(unknown) < 20 {
				what := fmt.Sprintf("user %q", line.User)
				if okU {
					what = fmt.Sprintf("item %q", line.Item)
				}
				unknown = append(unknown, fmt.Errorf("%s:%d: %s is not in the data", src.path, line.No, what))
			}
			continue
		}
		pairs = append(pairs, dataset.Pair{User: u, Item: i})
		if err := t.asks.add(line); err != nil {
			return nil, err
		}
	}
	if err := check.Report().Err(); err != nil {
		return nil, &usageError{err}
	}
	if missing > 0 {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "input", "%d lines name nobody and nothing in the data:\n%w", missing, errors.Join(unknown...)), "mend the lines, or name the data they belong to with --data")}
	}
	if t.reqs != nil {
		return nil, nil
	}
	if len(pairs) == 0 {
		return nil, &usageError{fault.Newf(fault.Fatal, "input", "%s holds no pair and no request", src.path)}
	}
	with, recs, err := ds.WithCandidates(pairs)
	t.asks.recs = recs
	return with, err
}

// connect dials the servers, names the author, and has every server serve the author's version. local is the folder of versions on this
// machine, "" for none.
func (t *task) connect(ctx context.Context, state, local string, show *progress.Reporter) (err error) {
	t.c.Training.Frozen = true
	if t.reqs != nil {
		if err := t.mayForward(); err != nil {
			return err
		}
		if len(t.c.Inference.Endpoints) == 0 {
			if err := t.forWarmup(ctx); err != nil {
				return err
			}
		}
	}
	if err := t.locate(local); err != nil {
		return err
	}
	if err := t.install(local); err != nil {
		return err
	}
	if t.b, err = connect(ctx, t.c, t.w, state, local, show); err != nil {
		return err
	}
	if t.reqs == nil && !t.w.Profiled() {
		if err := augment(ctx, t.c, t.w, t.b, t.asks.recs, show); err != nil {
			return err
		}
	}
	who, newcomers, err := t.writes(t.b.base, t.b.baseID)
	if err != nil {
		return err
	}
	t.model = who.Model
	if t.reqs != nil {
		t.calls = &orchestrator.Requests{Calls: t.reqs.call, Server: t.b.fleet, Author: who.Digest}
		return nil
	}
	t.batch = &orchestrator.Batch{Writer: orchestrator.Writer{Work: t.w, Model: t.b.fleet, MaxTokens: t.c.Inference.MaxTokens}, Author: who}
	return t.adopt(ctx, newcomers, show)
}

// mayForward refuses servers that cannot take requests as they are written.
func (t *task) mayForward() error {
	for _, e := range t.c.Inference.Endpoints {
		if e.Kind == "tgi" {
			return &usageError{fault.WithHint(fault.Newf(fault.Fatal, "input", "%s is a TGI, which does not take the requests of a batch file as they are written", e.URL), "name servers with OpenAI's API in inference.endpoints, as vLLM")}
		}
	}
	return nil
}

// forWarmup loads the data that the embedded server is warmed up on, which requests themselves do not need.
func (t *task) forWarmup(ctx context.Context) error {
	dir, err := dataPath(t.c.Data.Path)
	if err != nil {
		return err
	}
	ds, report, err := dataset.Load(ctx, dir, dataset.Options{})
	if err != nil {
		return err
	}
	return t.prepare(ctx, ds, report)
}

// author is the digest of who writes.
func (t *task) author() string {
	if t.reqs != nil {
		return t.calls.Author
	}
	return t.batch.Author.Digest
}

// store puts what the job needs where put keeps it, by its digest, and returns the job's description and digest.
func (t *task) store(ctx context.Context, put func(context.Context, io.Reader) (string, error)) (json.RawMessage, string, error) {
	text, err := t.c.Lasting().YAML()
	if err != nil {
		return nil, "", err
	}
	j := job{Version: jobVersion, Config: string(text), Author: t.author(), Model: t.model}
	blob := func(write func(io.Writer) error) (string, error) {
		pr, pw := io.Pipe()
		go func() { pw.CloseWithError(write(pw)) }()
		sha, err := put(ctx, pr)
		_ = pr.Close() // a writer that is still at it ends
		return sha, err
	}
	if t.dir != "" {
		if j.Data, err = blob(func(w io.Writer) error { return orchestrator.PackData(t.dir, w) }); err != nil {
			return nil, "", err
		}
	}
	switch {
	case t.reqs != nil:
		j.Lines, err = blob(t.reqs.write)
	case t.given:
		j.Lines, err = blob(func(w io.Writer) error { return t.asks.write(w, t.w.Data) })
	}
	if err != nil {
		return nil, "", err
	}
	if t.reqs == nil && t.w.Profiled() {
		if j.Profiles, err = blob(t.w.WriteProfiles); err != nil {
			return nil, "", err
		}
	}
	if t.version != nil {
		j.PolicyName, j.Served = t.version.Name, t.served
		if j.Policy, err = blob(func(w io.Writer) error { return orchestrator.PackData(t.version.Dir, w) }); err != nil {
			return nil, "", err
		}
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

// fetch makes a batch ready to be worked on, on a machine that knows nothing but the database, and where it has one, its own folder of
// versions.
func fetch(ctx context.Context, db *queue.DB, b queue.Batch, own string, show *progress.Reporter) (*task, error) {
	t, j, err := restore(ctx, db, b)
	if err != nil {
		return nil, err
	}
	if len(t.c.Inference.Endpoints) == 0 {
		t.close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "batch "+b.Name, "it was planned for the embedded server of the machine that planned it"), "continue it there, or plan it with inference.endpoints")
	}
	if text := t.leaving(ctx, j.Policy != ""); text != "" {
		show.Printf("batch %s: %s", b.Name, text)
	}
	local, err := t.fetchVersion(ctx, db, j, own)
	if err == nil && j.Profiles != "" { // a model might write others here, and prompts must be equal
		var r io.Reader
		if r, err = db.Blob(ctx, j.Profiles); err == nil {
			err = t.w.ReadProfiles(ctx, r)
		}
	}
	if err == nil {
		err = t.connect(ctx, "", local, show)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	if t.author() != j.Author {
		t.close()
		return nil, fault.Newf(fault.Fatal, "batch "+b.Name, "it was planned for %s, here %s writes", j.Author, t.author())
	}
	return t, nil
}

// restore reads a batch out of the database: its settings, its pairs or requests, and the data that they need.
func restore(ctx context.Context, db *queue.DB, b queue.Batch) (*task, job, error) {
	var j job
	if err := json.Unmarshal(b.Settings, &j); err != nil || j.Version != jobVersion {
		return nil, j, fault.WithHint(fault.Newf(fault.Fatal, "batch "+b.Name, "its settings are of form %q, this program knows %q", j.Version, jobVersion), "use the version of recpie that planned the batch")
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, j, err
	}
	if err := os.MkdirAll(filepath.Join(cache, "batches"), 0o755); err != nil {
		return nil, j, fault.New(fault.Fatal, "cache folder", err)
	}
	settings := filepath.Join(cache, "batches", "config-"+b.Digest[:16]+".yaml")
	if err := durable.WriteFile(settings, []byte(j.Config), 0o644); err != nil {
		return nil, j, err
	}
	c, err := config.Load(config.Sources{File: settings})
	if err != nil {
		return nil, j, err
	}
	folder := func() (string, error) {
		dir := blobPath(cache, "data", j.Data)
		return dir, unpack(ctx, db, j.Data, dir)
	}
	var in source
	if j.Lines != "" {
		in.path = blobPath(cache, "lines", j.Lines) + ".jsonl"
		if _, err := os.Stat(in.path); errors.Is(err, fs.ErrNotExist) {
			r, err := db.Blob(ctx, j.Lines)
			if err != nil {
				return nil, j, err
			}
			if err := durable.Write(in.path, 0o644, func(w io.Writer) error { _, err := io.Copy(w, r); return err }); err != nil {
				return nil, j, err
			}
		}
	}
	t, err := newTask(ctx, c, folder, in)
	if err != nil {
		return nil, j, err
	}
	t.model = j.Model
	return t, j, nil
}

// blobPath is where a blob of a batch lies on this machine.
func blobPath(cache, kind, sha string) string {
	return filepath.Join(cache, "batches", kind+"-"+sha[:min(len(sha), 16)])
}

// unpack brings a blob of files out of the database, unless it is there.
func unpack(ctx context.Context, db *queue.DB, sha, dir string) error {
	if exists(dir) {
		return nil
	}
	r, err := db.Blob(ctx, sha)
	if err == nil {
		err = orchestrator.UnpackData(r, dir)
	}
	if err != nil && exists(dir) { // another worker of this machine was first
		return nil
	}
	return err
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
