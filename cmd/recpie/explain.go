package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"recpie/config"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/internal/torch"
	"recpie/internal/web"
	"recpie/orchestrator"
)

// explaining is what the flags of explain say.
type explaining struct {
	in                     source
	to                     exporting
	dryRun, planOnly       bool
	db, name, progress, ui string
	chunk, priority        int
	errorRate              float64
	deadline               time.Duration
	learned                learned
	estimating             estimating
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

The input may be an OpenAI batch file as well (lines with custom_id, method, url and body): its requests are sent as they are written,
and come out as the lines of an OpenAI batch output. A body names the model of inference.model, one that --model-alias says means
it, or none.

The batch lives in batches.db of the run directory, or in the PostgreSQL database that RECPIE_DATABASE_URL (or the file that
RECPIE_DATABASE_URL_FILE names) leads to; there, 'recpie worker' on any machine joins in.`,
		Example: `  recpie explain --run runs/first --sample-pairs 500
  recpie explain -c recpie.yaml --run runs/llama --input pairs.parquet --out explanations.parquet
  recpie explain -c recpie.yaml --run runs/llama --input pairs.jsonl --dry-run
  recpie explain -c recpie.yaml --run runs/chats --input requests.jsonl --model-alias gpt-4o-mini --out answers.jsonl --errors errors.jsonl
  recpie explain -c recpie.yaml --run runs/llama --input pairs.csv --order completed --out - | my-importer
  recpie explain --from runs/first --run runs/learned --input pairs.csv
  recpie explain status --run runs/llama -o json
  recpie explain retry-dead --run runs/llama`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.explain(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.in.path, "input", "", `file of pairs or requests, "-" for standard input (default: the records of the split)`)
	fl.StringVar(&f.in.format, "input-format", "", "jsonl, csv, parquet or openai (default: by the file's name and content)")
	fl.StringArrayVar(&f.in.aliases, "model-alias", nil, "a name that means inference.model in the bodies of requests (repeatable)")
	f.to.flags(fl, "explanations.jsonl in the run directory")
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
	cmd.AddCommand(a.exportCmd(&f))
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
	if err := f.to.check(); err != nil {
		return err
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
	t, err := newTask(ctx, c, func() (string, error) { return dataPath(c.Data.Path) }, f.in)
	if err != nil {
		return err
	}
	defer t.close()
	if err := f.to.fits(t); err != nil {
		return err
	}
	if t.reqs != nil && f.learned.from != "" {
		return &usageError{errors.New("--from is for pairs: requests are sent to the served model as they are written")}
	}
	t.version = version
	f.warnLeaving(ctx, cmd.ErrOrStderr(), t)
	if f.dryRun {
		return a.estimate(cmd, &f, t, show)
	}
	if err := t.connect(ctx, dir.Path("lm"), versionsDir(c, dir.Path()), show); err != nil {
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
	b, err := f.plan(ctx, cmd.ErrOrStderr(), db, t, name, show)
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
	if f.to.out == "" {
		f.to.out = dir.Path("explanations.jsonl")
	}
	if err := f.work(ctx, cmd, db, t, b, show); err != nil {
		return err
	}
	s, err := db.Status(ctx, b)
	if err != nil {
		return err
	}
	sum := countsOf(s)
	sum["file"], sum["model"], sum["soft_prompts"] = f.to.out, t.model, t.soft()
	return a.print(f.to.sink(cmd), sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d rows, %d without a sentence, %d reused, %d tokens\n%s\n", s.Rows, s.Dead, s.Reused, s.Tokens, f.to.out)
	})
}

// plan stores batch and rows, or finds them.
func (f *explaining) plan(ctx context.Context, w io.Writer, db *queue.DB, t *task, name string, show *progress.Reporter) (queue.Batch, error) {
	settings, digest, err := t.store(ctx, db.PutBlob)
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
	bar := show.Start("plan", int64(t.rows()), 0)
	before, said := int64(0), time.Now()
	_, err = db.Plan(ctx, b, t.inputs(), func(p queue.Planned) {
		bar.Add(p.Rows - before)
		before = p.Rows
		if f.progress == "json" && time.Since(said) >= progressEvery {
			said = time.Now()
			_ = json.NewEncoder(w).Encode(map[string]any{"batch": name, "state": b.State, "rows": t.rows(), "planned": p.Rows, "reused": p.Reused})
		}
	})
	if err != nil {
		return b, err
	}
	bar.Done("")
	return db.Lookup(ctx, name)
}

// work runs the batch in this process to its end, and exports it: afterwards, or meanwhile.
func (f *explaining) work(ctx context.Context, cmd *cobra.Command, db *queue.DB, t *task, b queue.Batch, show *progress.Reporter) error {
	s, err := db.Status(ctx, b)
	if err != nil {
		return err
	}
	if s.State == queue.Failed || s.State == queue.Paused { // the same command continues
		if err := db.Resume(ctx, b); err != nil {
			return err
		}
	}
	bar := show.Start("explanations", s.Rows, s.OK+s.Dead)
	if f.progress == "json" {
		stop := progressLines(ctx, cmd.ErrOrStderr(), db, b)
		defer stop()
	}
	var g errgroup.Group
	wctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f.to.live() {
		g.Go(func() error {
			err := t.export(wctx, db, b, f.to)
			if err != nil {
				cancel(err) // what cannot be written need not be asked for
			}
			return err
		})
	}
	err = db.Work(wctx, queue.WorkOptions{Batch: b.ID, Workers: workers(t.c, b.ChunkRows), Handler: t.handler(), Stored: func(_ queue.Batch, rows []queue.Result) {
		bar.Add(int64(len(rows)))
	}})
	if err != nil {
		cancel(err)
	}
	if e := g.Wait(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	bar.Done("")
	if f.to.live() {
		return nil
	}
	return t.export(ctx, db, b, f.to)
}

// workers is how many chunks keep the allowed number of requests in flight, and one more, so that a chunk's last rows do not leave servers idle.
func workers(c *config.Config, chunk int) int { return (c.Inference.Concurrency+chunk-1)/chunk + 1 }
