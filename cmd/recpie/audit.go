package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"recpie/internal/audit"
	"recpie/internal/progress"
	"recpie/internal/torch"
	"recpie/orchestrator"
)

func (a *app) auditCmd() *cobra.Command {
	var s orchestrator.AuditSettings
	var out, format string
	cmd := &cobra.Command{
		Use: "audit [RUN]", Short: "Do the predictions of a finished run depend on their explanations", Args: cobra.MaximumNArgs(1),
		Long: `Audit repeats the predictions for test records with their explanations altered: taken away, exchanged, replaced by those of another user
or of a random pair, turned into their opposites, shortened by one reason at a time. It says of each explanation whether it is faithful (the
prediction depends on what it says), inert (nothing moves) or contrary (it works against what it says), and what each reason adds.

It writes audit/ into the run directory: audit.html to look at, summary.json, rows.jsonl with a line per record, and verdicts.jsonl, by
which predict --hide-unfaithful leaves out what is not faithful. The same command continues an interrupted audit. docs/audit.md says what each number means.`,
		Example: `  recpie audit runs/quickstart
  recpie audit runs/quickstart --sample 2000 --out changes.csv
  recpie audit runs/quickstart -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			if s.Sample < 0 || s.Curves < 0 || s.Threshold < 0 || s.Threshold >= 1 {
				return &usageError{errors.New("--sample and --curves are not below 0, --threshold is in [0,1)")}
			}
			to := audit.Output{Path: out, Format: format}
			if out != "" {
				if err := to.Check(); err != nil {
					return &usageError{err}
				}
			}
			if len(args) == 1 {
				c.Run = args[0]
			}
			torch.SetThreads(1)
			if _, _, err := finishedRun(c.Run); err != nil { // before its folder is locked, which would make one
				return err
			}
			lock, err := orchestrator.OpenRunDir(c.Run)
			if err != nil {
				return err
			}
			defer lock.Close()
			t, closeEncoder, err := loadRunWithEncoder(cmd.Context(), c.Run)
			if err != nil {
				return err
			}
			defer closeEncoder()
			defer t.Close()
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			s.Seed, s.Show = c.Seed, show
			sum, rows, err := t.Audit(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer rows.Close()
			text := cmd.OutOrStdout()
			if out != "" {
				if err := audit.Export(to, rows); err != nil {
					return err
				}
			}
			if out == "-" {
				text = cmd.ErrOrStderr()
			}
			return a.print(text, sum, func(w io.Writer) {
				fmt.Fprintf(w, "%s\npage: %s\n", sum.Text(), filepath.Join(c.Run, "audit", "audit.html"))
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&s.Sample, "sample", 20000, "test records that are audited at most, drawn by --seed; 0 takes all")
	fl.IntVar(&s.Curves, "curves", 2000, "of these, records whose reasons are also taken out one after the other, at most")
	fl.Float64Var(&s.Threshold, "threshold", 0, "change of a prediction, on [0,1], up to which nothing has moved; 0 calibrates it")
	fl.StringVar(&out, "out", "", `file for a row per record, "-" for standard output`)
	fl.StringVar(&format, "out-format", "", "jsonl, csv or parquet (default: by the file's name)")
	return cmd
}
