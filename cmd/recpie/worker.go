package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/internal/torch"
	"recpie/internal/web"
	"recpie/orchestrator"
)

func (a *app) workerCmd() *cobra.Command {
	var file, ui string
	var count int
	cmd := &cobra.Command{
		Use: "worker", Short: "Work on the batches of a database until stopped", Args: cobra.NoArgs,
		Long: `Worker joins the database that RECPIE_DATABASE_URL (or the file that RECPIE_DATABASE_URL_FILE names) leads to and works on its
batches, the most urgent first, until it is stopped. Settings, data and pairs come out of the database; the keys of the inference
servers come out of the environment variables that a batch names. Start as many as you like, on any machine that reaches the servers;
chunks of one that dies are taken over within seconds. An address is never given as an argument, where others could read it.`,
		Example: `  export RECPIE_DATABASE_URL_FILE=/run/secrets/recpie-database
  recpie worker
  recpie worker --workers 8 --ui 127.0.0.1:8088`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.load()
			if err != nil {
				return err
			}
			torch.SetThreads(1)
			url, err := dsn(file)
			if err != nil {
				return err
			}
			if url == "" {
				return &usageError{fault.WithHint(errors.New("no database of batches"), "set RECPIE_DATABASE_URL, or name a SQLite file with --db")}
			}
			db, err := queue.Open(ctx, url, queue.Options{})
			if err != nil {
				return err
			}
			defer db.Close()
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			h := &joiner{db: db, show: show, versions: c.Publish.LocalDir, tasks: map[int64]*joined{}}
			defer h.close()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if ui != "" {
				at, stop, err := jobsPage(ctx, db, ui)
				if err != nil {
					return err
				}
				defer stop()
				log.Info("jobs", slog.String("at", at))
			}
			log.Info("worker started")
			err = db.Work(ctx, queue.WorkOptions{Workers: count, Handler: h, Logger: log})
			if ctx.Err() != nil {
				log.Info("worker stopped")
				return nil // stopping it is how a worker ends
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "db", "", "SQLite file of batches, where no database is named in the environment")
	cmd.Flags().StringVar(&ui, "ui", "", "show River's web interface at this address, as 127.0.0.1:8088; off loopback only with "+web.TokenVariable)
	cmd.Flags().IntVar(&count, "workers", 4, "chunks in flight at once")
	return cmd
}

// jobsPage shows River's web interface over the jobs until stop is called.
func jobsPage(ctx context.Context, db *queue.DB, addr string) (url string, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	h, err := db.UI(ctx, "")
	if err != nil {
		cancel()
		return "", nil, err
	}
	url, end, err := web.Serve(addr, os.Getenv(web.TokenVariable), h)
	if err != nil {
		cancel()
		return "", nil, err
	}
	return url, func() { end(); cancel() }, nil
}

// joiner is the handler of a worker: it makes a batch ready when its first chunk comes.
type joiner struct {
	db       *queue.DB
	show     *progress.Reporter
	versions string // folder of versions that servers read, "" when this machine's settings name none

	mu    sync.Mutex
	tasks map[int64]*joined
}

type joined struct {
	once sync.Once
	t    *task
	err  error
}

// Do implements queue.Handler.
func (h *joiner) Do(ctx context.Context, b queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	h.mu.Lock()
	j := h.tasks[b.ID]
	if j == nil {
		j = &joined{}
		h.tasks[b.ID] = j
	}
	h.mu.Unlock()
	j.once.Do(func() { j.t, j.err = fetch(ctx, h.db, b, h.versions, h.show) })
	if j.err != nil {
		h.mu.Lock()
		delete(h.tasks, b.ID) // the next chunk tries anew
		h.mu.Unlock()
		return nil, j.err
	}
	return j.t.handler().Do(ctx, b, rows)
}

func (h *joiner) close() {
	for _, j := range h.tasks {
		if j.t != nil {
			j.t.close()
		}
	}
}

// batchCmds are the commands that look at or change a batch: explain status, pause, resume, cancel, retry-dead.
func (a *app) batchCmds(f *explaining) []*cobra.Command {
	control := func(use, short string, observe bool, do func(ctx context.Context, cmd *cobra.Command, db *queue.DB, b queue.Batch) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  recpie explain " + use + " --run runs/first\n  recpie explain " + use + " --db batches.db --name nightly",
			RunE: func(cmd *cobra.Command, _ []string) error {
				ctx := cmd.Context()
				db, b, err := a.observe(ctx, f, observe)
				if err != nil {
					return err
				}
				defer db.Close()
				if err := do(ctx, cmd, db, b); err != nil {
					return err
				}
				if b, err = db.Lookup(ctx, b.Name); err != nil {
					return err
				}
				s, err := db.Status(ctx, b)
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), countsOf(s), func(w io.Writer) { writeStatus(w, s) })
			},
		}
	}
	return []*cobra.Command{
		control("status", "Say how far a batch is", true, func(context.Context, *cobra.Command, *queue.DB, queue.Batch) error { return nil }),
		control("pause", "Stop a batch until it is resumed; chunks in flight finish", true, func(ctx context.Context, _ *cobra.Command, db *queue.DB, b queue.Batch) error {
			return db.Pause(ctx, b)
		}),
		control("resume", "Let a paused or failed batch run again", true, func(ctx context.Context, _ *cobra.Command, db *queue.DB, b queue.Batch) error {
			return db.Resume(ctx, b)
		}),
		control("cancel", "End a batch for ever; what is stored stays", true, func(ctx context.Context, _ *cobra.Command, db *queue.DB, b queue.Batch) error {
			return db.Cancel(ctx, b)
		}),
		control("retry-dead", "Put rows that ended without a sentence back to be done again", false, func(ctx context.Context, cmd *cobra.Command, db *queue.DB, b queue.Batch) error {
			n, err := db.RetryDead(ctx, b)
			if err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d rows will be done again by the next 'recpie explain' or worker\n", n)
			}
			return err
		}),
	}
}

// observe opens the database of a command line and finds its batch. Without observe the database is held against other processes.
func (a *app) observe(ctx context.Context, f *explaining, observe bool) (*queue.DB, queue.Batch, error) {
	var b queue.Batch
	c, err := a.load()
	if err != nil {
		return nil, b, err
	}
	url, name, err := f.where(c)
	if err != nil {
		return nil, b, err
	}
	if url == f.db && !exists(f.db) {
		return nil, b, fault.WithHint(fault.Newf(fault.Fatal, "explain", "there is no database of batches at %s", f.db), "name the run with --run, the file with --db, or set RECPIE_DATABASE_URL")
	}
	db, err := queue.Open(ctx, url, queue.Options{Observe: observe})
	if err != nil {
		return nil, b, err
	}
	if b, err = db.Lookup(ctx, name); err != nil {
		return nil, b, errors.Join(err, db.Close())
	}
	return db, b, nil
}

func (a *app) purgeCmd() *cobra.Command {
	var user, file string
	cmd := &cobra.Command{
		Use: "purge", Short: "Remove a person's rows from a database of batches", Args: cobra.NoArgs,
		Long: `Purge removes every row about a user from every batch: what was asked, what was answered, and the index by which answers are
reused. Blobs of data and pairs, and run directories, are files of yours: remove the user there before the next batch.`,
		Example: "  recpie purge --user u123 --run runs/first\n  recpie purge --user u123 --db batches.db",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" {
				return &usageError{errors.New("name the user with --user")}
			}
			c, err := a.load()
			if err != nil {
				return err
			}
			f := explaining{db: file}
			url, _, err := f.where(c)
			if err != nil {
				return err
			}
			if _, err := os.Stat(url); url == f.db && err != nil {
				return fault.New(fault.Fatal, "purge", err)
			}
			db, err := queue.Open(cmd.Context(), url, queue.Options{})
			if err != nil {
				return err
			}
			defer db.Close()
			n, err := db.Purge(cmd.Context(), func(_ queue.Batch, r queue.Input) bool { return orchestrator.OfUser(r, user) })
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), map[string]any{"rows": n}, func(w io.Writer) { fmt.Fprintf(w, "%d rows removed\n", n) })
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "id of the user, as in the data")
	cmd.Flags().StringVar(&file, "db", "", "SQLite file of batches (default batches.db in the run directory)")
	return cmd
}
