package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/batchfile"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/internal/torch"
	"recpie/internal/web"
	"recpie/orchestrator"
	"recpie/prompts"
)

// explaining is what the flags of explain say.
type explaining struct {
	input, format, out, outFormat string
	rows, dryRun, planOnly        bool
	db, name, progress, ui        string
	chunk, priority               int
	errorRate                     float64
	deadline                      time.Duration
	learned                       learned
	estimating                    estimating
}

func (a *app) explainCmd() *cobra.Command {
	var f explaining
	cmd := &cobra.Command{
		Use: "explain", Short: "Write both explanations of many pairs", Args: cobra.NoArgs,
		Long: `Explain plans a batch of (user, item) pairs, asks the configured inference servers (or the embedded one) for both explanations
of each, stores every row exactly once, and exports them in order. Pairs are the records of the split, of a sample of users, or the
lines of --input (JSON lines, CSV or Parquet with user_id and item_id, "-" for standard input); all that is wrong with the lines is
reported before anything is sent. The same command continues an interrupted batch; rows that any batch of the database holds for
the same prompt and model are reused. With --from, the adapter and the soft prompts that a run learned write.

The batch lives in batches.db of the run directory, or in the PostgreSQL database that RECPIE_DATABASE_URL (or the file that
RECPIE_DATABASE_URL_FILE names) leads to; there, 'recpie worker' on any machine joins in.`,
		Example: `  recpie explain --run runs/first --sample-pairs 500
  recpie explain -c recpie.yaml --run runs/llama --input pairs.parquet --out explanations.parquet
  recpie explain -c recpie.yaml --run runs/llama --input pairs.jsonl --dry-run
  recpie explain --from runs/first --run runs/learned --input pairs.csv
  recpie explain status --run runs/llama -o json
  recpie explain retry-dead --run runs/llama`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.explain(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.input, "input", "", `file of pairs, "-" for standard input (default: the records of the split)`)
	fl.StringVar(&f.format, "input-format", "", "jsonl, csv or parquet (default: by the file's name)")
	fl.StringVar(&f.out, "out", "", `file to export to, "-" for standard output (default explanations.jsonl in the run directory)`)
	fl.StringVar(&f.outFormat, "out-format", "", "jsonl or parquet (default: by the file's name)")
	fl.BoolVar(&f.rows, "rows", false, "export one line per sentence instead of one per pair")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check the input and estimate requests, tokens, time, cost and disk; send nothing")
	fl.BoolVar(&f.planOnly, "plan-only", false, "store the batch and leave the work to 'recpie worker'")
	fl.IntVar(&f.chunk, "chunk", 64, "rows of a job: they are redone together after a crash")
	fl.IntVar(&f.priority, "priority", 2, "1 (first) to 4")
	fl.Float64Var(&f.errorRate, "max-error-rate", 0, "stop when a larger share of the rows ends without a sentence; 0 for no limit")
	fl.DurationVar(&f.deadline, "deadline", 0, "stop the batch after this time; 0 for none")
	f.learned.flags(fl)
	f.estimating.flags(fl)
	a.settingFlag(cmd, "redact", "prompts.redact", "")
	p := cmd.PersistentFlags()
	p.StringVar(&f.db, "db", "", "SQLite file of batches (default batches.db in the run directory)")
	p.StringVar(&f.name, "name", "", "name of the batch (default: that of the run directory)")
	fl.StringVar(&f.ui, "ui", "", "show River's web interface at this address while working, as 127.0.0.1:8088; off loopback only with "+web.TokenVariable)
	fl.StringVar(&f.progress, "progress", "text", "text, or json for one line of counts per second on standard error")
	cmd.AddCommand(a.batchCmds(&f)...)
	return cmd
}

// where resolves the database and the batch's name.
func (f *explaining) where(c *config.Config) (string, string, error) {
	if f.db == "" {
		f.db = filepath.Join(c.Run, "batches.db")
	}
	if f.name == "" {
		f.name = filepath.Base(filepath.Clean(c.Run))
	}
	url, err := dsn(f.db)
	return url, f.name, err
}

func (a *app) explain(cmd *cobra.Command, f explaining) error {
	ctx := cmd.Context()
	if err := f.learned.settings(a); err != nil {
		return err
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	if f.progress != "text" && f.progress != "json" {
		return &usageError{fmt.Errorf("--progress is text or json, not %q", f.progress)}
	}
	torch.SetThreads(1)
	show := progress.New(cmd.ErrOrStderr())
	if f.progress == "json" {
		show = progress.New(io.Discard)
	}
	defer show.Close()
	version, err := f.learned.open(show)
	if err != nil {
		return err
	}
	var dir *orchestrator.RunDir
	if !f.dryRun {
		if dir, err = openRun(c); err != nil {
			return err
		}
		defer dir.Close()
	}
	folder, err := dataPath(c.Data.Path)
	if err != nil {
		return err
	}
	t, err := newTask(ctx, c, folder, f.input, f.format)
	if err != nil {
		return err
	}
	defer t.close()
	t.version = version
	f.warnLeaving(ctx, cmd.ErrOrStderr(), t)
	if f.dryRun {
		return a.estimate(cmd, &f, t, folder, show)
	}
	local := c.Publish.LocalDir
	if local == "" {
		local = dir.Path("adapters")
	}
	if err := t.connect(ctx, dir.Path("lm"), local, show); err != nil {
		return err
	}
	url, name, err := f.where(c)
	if err != nil {
		return err
	}
	db, err := queue.Open(ctx, url, queue.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := f.plan(ctx, db, t, folder, name, show)
	if err != nil {
		return err
	}
	if f.planOnly {
		s, err := db.Status(ctx, b)
		if err != nil {
			return err
		}
		return a.print(cmd.OutOrStdout(), countsOf(s), func(w io.Writer) {
			fmt.Fprintf(w, "batch %s: %d rows, %d of them known already\nstart 'recpie worker' where the servers can be reached\n", name, s.Rows, s.Reused)
		})
	}
	if f.ui != "" {
		at, stop, err := jobsPage(ctx, db, f.ui)
		if err != nil {
			return err
		}
		defer stop()
		show.Printf("jobs: %s", at)
	}
	if err := f.work(ctx, cmd, db, t, b, show); err != nil {
		return err
	}
	if f.out == "" {
		f.out = dir.Path("explanations.jsonl")
	}
	if err := t.export(ctx, db, b, f); err != nil {
		return err
	}
	s, err := db.Status(ctx, b)
	if err != nil {
		return err
	}
	to := cmd.OutOrStdout()
	if f.out == "-" {
		to = cmd.ErrOrStderr()
	}
	sum := countsOf(s)
	sum["file"], sum["model"], sum["soft_prompts"] = f.out, t.batch.Author.Model, t.soft()
	return a.print(to, sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d rows, %d without a sentence, %d reused, %d tokens\n%s\n", s.Rows, s.Dead, s.Reused, s.Tokens, f.out)
	})
}

// plan stores batch and rows, or finds them.
func (f *explaining) plan(ctx context.Context, db *queue.DB, t *task, folder, name string, show *progress.Reporter) (queue.Batch, error) {
	settings, digest, err := t.store(ctx, db.PutBlob, folder)
	if err != nil {
		return queue.Batch{}, err
	}
	spec := queue.Spec{Name: name, Digest: digest, Settings: settings, Env: t.env(), Priority: f.priority, ChunkRows: f.chunk, MaxErrorRate: f.errorRate}
	if f.deadline > 0 {
		spec.Deadline = time.Now().Add(f.deadline)
	}
	b, err := db.Create(ctx, spec)
	if err != nil {
		return b, err
	}
	bar := show.Start("plan", int64(len(t.asks)), 0)
	before := int64(0)
	_, err = db.Plan(ctx, b, t.batch.Inputs(slices.Values(t.asks)), func(p queue.Planned) {
		bar.Add(p.Rows - before)
		before = p.Rows
	})
	if err != nil {
		return b, err
	}
	bar.Done("")
	return db.Lookup(ctx, name)
}

// work runs the batch in this process to its end.
func (f *explaining) work(ctx context.Context, cmd *cobra.Command, db *queue.DB, t *task, b queue.Batch, show *progress.Reporter) error {
	s, err := db.Status(ctx, b)
	if err != nil {
		return err
	}
	if b.State == queue.Failed || b.State == queue.Paused { // the same command continues
		if err := db.Resume(ctx, b); err != nil {
			return err
		}
	}
	bar := show.Start("explanations", s.Rows, s.OK+s.Dead)
	var mu sync.Mutex
	last := time.Now()
	err = db.Work(ctx, queue.WorkOptions{Batch: b.ID, Workers: workers(t.c, b.ChunkRows), Handler: t.batch, Stored: func(_ queue.Batch, rows []queue.Result) {
		bar.Add(int64(len(rows)))
		mu.Lock()
		defer mu.Unlock()
		s.OK += int64(len(rows))
		if f.progress == "json" && time.Since(last) > time.Second {
			last = time.Now()
			_ = json.NewEncoder(cmd.ErrOrStderr()).Encode(map[string]int64{"rows": s.Rows, "done": s.OK + s.Dead})
		}
	}})
	if err != nil {
		return err
	}
	bar.Done("")
	return nil
}

// workers is how many chunks keep the allowed number of requests in flight, and one more, so that a chunk's last rows do not leave servers idle.
func workers(c *config.Config, chunk int) int { return (c.Inference.Concurrency+chunk-1)/chunk + 1 }

func countsOf(s queue.Status) map[string]any {
	m := map[string]any{"batch": s.Name, "state": s.State, "rows": s.Rows, "done": s.OK, "dead": s.Dead, "reused": s.Reused, "queued": s.Queued, "tokens": s.Tokens,
		"rows_last_minute": s.Recent, "seconds_left": s.Remaining().Seconds()}
	if s.Reason != "" {
		m["reason"] = s.Reason
	}
	return m
}

// export writes the rows of a batch in order: one line per pair where every line asked for both sentences, else one per sentence.
func (t *task) export(ctx context.Context, db *queue.DB, b queue.Batch, f explaining) error {
	single := f.rows
	for _, l := range t.lines {
		single = single || l.Polarity != batchfile.Both
	}
	row := func(r queue.Result) (batchfile.Row, error) {
		if r.Row < 0 || r.Row >= int64(len(t.asks)) {
			return batchfile.Row{}, fault.Newf(fault.Fatal, "export", "row %d is none of the %d asked for", r.Row, len(t.asks))
		}
		a := t.asks[r.Row]
		rec := t.w.Data.Records[a.Record]
		out := batchfile.Row{Row: r.Row, User: t.w.Data.Users[rec.User], Item: t.w.Data.Items[rec.Item].ID, Polarity: int8(a.Polarity), Text: r.Text, Reason: r.Reason,
			Tokens: int64(r.Tokens), Model: t.batch.Author.Model}
		if t.lines != nil {
			out.ID = t.lines[t.of[r.Row]].ID
		}
		return out, nil
	}
	if single {
		return batchfile.WriteRows(f.out, f.outFormat, func(put func(batchfile.Row) error) error {
			for r, err := range db.Results(ctx, b) {
				if err != nil {
					return err
				}
				out, err := row(r)
				if err == nil {
					err = put(out)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return batchfile.WritePairs(f.out, f.outFormat, func(put func(batchfile.Pair) error) error {
		var pair batchfile.Pair
		for r, err := range db.Results(ctx, b) {
			if err != nil {
				return err
			}
			s, err := row(r)
			if err != nil {
				return err
			}
			if s.Polarity == int8(prompts.Positive) {
				pair = batchfile.Pair{Row: r.Row / 2, ID: s.ID, User: s.User, Item: s.Item, Positive: s.Text, PositiveReason: s.Reason, PositiveTokens: s.Tokens, Model: s.Model}
				continue
			}
			if pair.User != s.User || pair.Item != s.Item || pair.Row != r.Row/2 {
				return fault.WithHint(errors.New("export: a pair lacks one of its sentences: rows were purged"), "export with --rows")
			}
			pair.Negative, pair.NegativeReason, pair.NegativeTokens = s.Text, s.Reason, s.Tokens
			if err := put(pair); err != nil {
				return err
			}
		}
		return nil
	})
}
