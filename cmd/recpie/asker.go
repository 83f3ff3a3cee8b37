package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recpie/config"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/store"
	"recpie/orchestrator"
)

// asking says where answers of a model are kept.
type asking struct{ db string }

func (f *asking) flags(fl *pflag.FlagSet) {
	fl.StringVar(&f.db, "answers", "", "SQLite file that keeps what a model answered (default answers.db in the cache folder)")
}

// open opens the file of answers.
func (f *asking) open(ctx context.Context) (*store.Store, error) {
	path := f.db
	if path == "" {
		cache, err := cacheDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(cache, "answers.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fault.New(fault.Fatal, "answers", err)
	}
	return store.Open(ctx, path)
}

// askerOf puts the questions of one kind to the base model of a backend; what is the bar's name.
func askerOf(c *config.Config, b *backend, db *store.Store, show *progress.Reporter, what string) *orchestrator.Asker {
	return &orchestrator.Asker{
		Store: db, Model: b.fleet, Author: orchestrator.Author{Model: b.base, Digest: "base " + b.baseID}, Concurrency: c.Inference.Concurrency,
		Progress: func(total, done int) func(int) {
			task := show.Start(what, int64(total), int64(done))
			return func(n int) {
				if task.Add(int64(n)); done+n >= total {
					task.Done("")
				}
				done += n
			}
		},
	}
}

// served connects to the model of the settings for questions about a data set; the embedded one is warmed up on it if it must be. w may be
// nil where servers are named.
func served(ctx context.Context, c *config.Config, w *orchestrator.Workspace, show *progress.Reporter) (*backend, error) {
	c.Training.Frozen = true
	tmp, err := os.MkdirTemp("", "recpie-")
	if err != nil {
		return nil, fault.New(fault.Fatal, "temporary folder", err)
	}
	b, err := connect(ctx, c, w, filepath.Join(tmp, "lm"), filepath.Join(tmp, "adapters"), show)
	if err != nil {
		_ = os.RemoveAll(tmp)
		return nil, err
	}
	b.stop = append([]func(){func() { _ = os.RemoveAll(tmp) }}, b.stop...) // last of all
	return b, nil
}

// warnReviews says, before anything is sent, that what goes to the servers leaves the private network.
func warnReviews(ctx context.Context, cmd *cobra.Command, c *config.Config, what string) {
	if hosts := publicHosts(ctx, c, nil); len(hosts) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s is not in a private network, and %s go there.\n", strings.Join(hosts, ", "), what)
	}
}
