package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/dataset/aspects"
	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/screen"
	"recpie/internal/torch"
	"recpie/orchestrator"
)

func (a *app) profilesCmd() *cobra.Command {
	var out string
	var f asking
	cmd := &cobra.Command{
		Use: "profiles PATH", Short: "Have the served model write a profile of every item", Args: cobra.ExactArgs(1),
		Long: `Profiles asks the model of inference.endpoints for a profile of every item: at most five sentences, greedily, from its title, its
categories and other fields, and the three terms that reviewers speak of most. A record of the training part may only be told
what reviews outside its fold say, so an item is asked about again where its terms without a fold are others; each distinct question is
asked once. Answers are kept in a file by the digest of the question, so that an interrupted command goes on where it was, and
'recpie train' and 'recpie explain' with profiles.augment: true find them there.

The small model that this program warms up itself has learned to write explanations only: it is asked with profiles.force: true.`,
		Example: `  recpie data profiles my/data -c recpie.yaml --out profiles.jsonl
  recpie train --data my/data -c recpie.yaml --set profiles.augment=true`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.profiles(cmd, args[0], out, f) },
	}
	cmd.Flags().StringVar(&out, "out", "", `file to write, JSON lines; "-" for standard output (default: none, the summary alone)`)
	f.flags(cmd.Flags())
	return cmd
}

// mayProfile says whether the model of the settings may be asked for profiles.
func mayProfile(c *config.Config) error {
	if len(c.Inference.Endpoints) == 0 && c.LM.Dir == "" && !c.Profiles.Force {
		return fault.WithHint(fault.Newf(fault.Fatal, "profiles", "the small warmed-up model has learned to write explanations, not profiles"),
			"name inference.endpoints or lm.dir, or insist with profiles.force: true")
	}
	return nil
}

func (a *app) profiles(cmd *cobra.Command, path, out string, f asking) error {
	ctx := cmd.Context()
	a.flags["data.path"] = path
	c, err := a.load()
	if err != nil {
		return err
	}
	if err := mayProfile(c); err != nil {
		return &usageError{err}
	}
	torch.SetThreads(1)
	show := progress.New(cmd.ErrOrStderr())
	defer show.Close()
	w, err := prepareText(ctx, c)
	if err != nil {
		return err
	}
	warnReviews(ctx, cmd, c, sentForProfiles(c))
	db, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := served(ctx, c, w, show)
	if err != nil {
		return err
	}
	defer b.close()
	items := make([]int32, len(w.Data.Items))
	for i := range items {
		items[i] = int32(i)
	}
	sum, written, err := w.Augment(ctx, askerOf(c, b, db, show, "profiles"), w.Pairs(), items)
	if err != nil {
		return err
	}
	err = writeOut(cmd, out, func(to io.Writer) error {
		e := aspects.NewEncoder(to)
		for _, p := range written {
			p.Why = screenLine(p.Why)
			if err := e.Encode(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := struct {
		*orchestrator.Augmented
		Model string `json:"model"`
		File  string `json:"file,omitempty"`
	}{sum, b.base, out}
	return a.print(beside(cmd, out), all, func(to io.Writer) {
		fmt.Fprintf(to, "%d of %d items have a profile, of %d too little is known; %d questions, %d asked now, %d tokens\n", sum.Items, len(items), sum.Unknown, sum.Questions, sum.New, sum.Tokens)
		for _, why := range slices.Sorted(maps.Keys(sum.Rejected)) {
			fmt.Fprintf(to, "%7d without a profile: %s\n", sum.Rejected[why], why)
		}
	})
}

// screenLine makes what a server said fit for one line.
func screenLine(s string) string { return screen.Line(s) }

// sentForProfiles says what questions for profiles hold.
func sentForProfiles(c *config.Config) string {
	if c.Prompts.Redact {
		return "the fields of items"
	}
	return "the fields of items and words out of reviews"
}

// profilesFile holds the profiles of a run in its directory.
const profilesFile = "profiles.jsonl"

// runProfiles gives a run its profiles: those it has, or, where the settings ask for them, those that the model writes now and the run keeps.
func runProfiles(ctx context.Context, c *config.Config, dir string, w *orchestrator.Workspace, b *backend, show *progress.Reporter) error {
	if err := keptProfiles(ctx, dir, w); err != nil || w.Profiled() {
		return err
	}
	if err := augment(ctx, c, w, b, w.Pairs(), show); err != nil || !w.Profiled() {
		return err
	}
	return durable.Write(filepath.Join(dir, profilesFile), 0o644, w.WriteProfiles)
}

// keptProfiles has prompts show the profiles that a run keeps, if any.
func keptProfiles(ctx context.Context, dir string, w *orchestrator.Workspace) error {
	f, err := os.Open(filepath.Join(dir, profilesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.Fatal, "profiles", err)
	}
	defer f.Close()
	return w.ReadProfiles(ctx, f)
}

// augment has the model write the profiles that the prompts of recs show, when the settings ask for it.
func augment(ctx context.Context, c *config.Config, w *orchestrator.Workspace, b *backend, recs []int32, show *progress.Reporter) error {
	if !c.Profiles.Augment {
		return nil
	}
	if err := mayProfile(c); err != nil {
		show.Printf("profiles stay as they are: %v (profiles.force: true insists)", err)
		return nil
	}
	var f asking
	db, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	sum, _, err := w.Augment(ctx, askerOf(c, b, db, show, "profiles"), recs, nil)
	if err != nil {
		return err
	}
	show.Printf("profiles: %d items, %d questions, %d of them asked now", sum.Items, sum.Questions, sum.New)
	return nil
}
