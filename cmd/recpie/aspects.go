package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
	"recpie/internal/durable"
	"recpie/internal/fault"
)

// aspecting is what the flags of data aspects say.
type aspecting struct {
	out, by, of string
	final       bool
	top         int
	asking      asking
}

func (a *app) aspectsCmd() *cobra.Command {
	var f aspecting
	cmd := &cobra.Command{
		Use: "aspects PATH", Short: "Find what reviews speak of, and what they think of it", Args: cobra.ExactArgs(1),
		Long: `Aspects reads the reviews of the training records and writes one line of JSON per training record: up to three terms of its
review, its opinions as quadruples (aspect, opinion word, sentence, polarity), and up to three terms of its item as the reviews
outside the record's fold know it. Terms and quadruples are outcomes, like the review itself; the item's terms may be shown to a
model that predicts the record.

The built-in way needs no model and no word list of others: grammar by rules, opinion words by the ratings of the reviews that use
them. With --by lm, the model of inference.endpoints (or the embedded one) is asked for three terms of each review, or, with
--of items, of each item. Its answers are kept in a file by the digest of the question, so that an interrupted command goes on where it was,
and a repeated one asks for nothing. Reviews leave this machine then, if the server is elsewhere.`,
		Example: `  recpie data aspects my/data --out aspects.jsonl
  recpie data aspects my/data -o json
  recpie data aspects my/data --by lm -c recpie.yaml --out aspects.jsonl
  recpie data aspects my/data --by lm --of items -c recpie.yaml --out items.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.by != "rules" && f.by != "lm":
				return &usageError{fmt.Errorf("--by is rules or lm, not %q", f.by)}
			case f.of != "records" && f.of != "items":
				return &usageError{fmt.Errorf("--of is records or items, not %q", f.of)}
			case f.of == "items" && f.by == "rules":
				return &usageError{errors.New("--of items is for --by lm: the built-in way writes the terms of items beside those of records")}
			case f.by == "lm":
				return a.aspectsByLM(cmd, args[0], f)
			}
			return a.aspectsByRules(cmd, args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.out, "out", "", `file to write, JSON lines; "-" for standard output (default: none, the summary alone)`)
	fl.StringVar(&f.by, "by", "rules", "rules for the built-in way, or lm for the served model")
	fl.StringVar(&f.of, "of", "records", "with --by lm: records or items")
	fl.BoolVar(&f.final, "final", false, "read the reviews of validation records too, as for the final test run")
	fl.IntVar(&f.top, "top", 20, "terms in the summary")
	f.asking.flags(fl)
	return cmd
}

// reviews loads a data set and returns the view whose reviews may be read.
func reviews(ctx context.Context, c *config.Config, path string, final bool) (*dataset.View, error) {
	path, err := dataPath(path)
	if err != nil {
		return nil, err
	}
	ds, _, err := dataset.Load(ctx, path, dataset.Options{})
	if err != nil {
		return nil, err
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{MinRecords: c.Data.MinRecords, TrainSparse: c.Data.TrainSparse})
	if err != nil {
		return nil, err
	}
	if ds.Spec.Review == "" {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "data", "%s has no reviews", path), "name their column as review in dataset.yaml")
	}
	if final {
		return split.FinalView(ds), nil
	}
	return split.TrainView(ds), nil
}

// writeOut writes a file that is whole or absent, or to standard output, or nothing.
func writeOut(cmd *cobra.Command, path string, fill func(io.Writer) error) error {
	switch path {
	case "":
		return nil
	case "-":
		return fill(cmd.OutOrStdout())
	}
	return durable.Write(path, 0o644, fill)
}

// beside is where a summary goes: to standard error when the lines are on standard output.
func beside(cmd *cobra.Command, path string) io.Writer {
	if path == "-" {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

func (a *app) aspectsByRules(cmd *cobra.Command, path string, f aspecting) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	view, err := reviews(cmd.Context(), c, path, f.final)
	if err != nil {
		return err
	}
	began := time.Now()
	found, err := aspects.Build(cmd.Context(), view, aspects.Options{FoldSeed: c.Seed})
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := writeOut(cmd, f.out, found.Write); err != nil {
		return err
	}
	sum := struct {
		aspects.Summary
		View    string  `json:"view"`
		Seconds float64 `json:"seconds"`
		File    string  `json:"file,omitempty"`
	}{found.Summarise(f.top), view.Digest(), took.Seconds(), f.out}
	return a.print(beside(cmd, f.out), sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d records, %d with a review, %d with terms, %d with opinions; read in %s\n", sum.Records, sum.Reviewed, sum.WithTerms, sum.Judging, took.Round(time.Millisecond))
		fmt.Fprintf(w, "%d opinions, %d good, %d bad; %d aspects, %d opinion words; %d items have terms\n", sum.Quads, sum.Good, sum.Bad, sum.Aspects, sum.Opinions, sum.Items)
		for _, t := range sum.Top {
			fmt.Fprintf(w, "%-24s %7d records  %6d good %6d bad  %+.2f\n", t.Name, t.Records, t.Good, t.Bad, t.Polarity)
		}
	})
}
