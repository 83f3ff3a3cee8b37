package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"recpie/internal/evaluate"
	"recpie/internal/torch"
	"recpie/orchestrator"
)

func (a *app) predictCmd() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "predict", Short: "Predict the test records of a finished run, with their explanations", Args: cobra.NoArgs,
		Long: `Predict loads the network and the explanations of the selected round and prints ratings on the data's own scale, as CSV or JSON. With
--hide-unfaithful it leaves out explanations that the run's audit found to do nothing or the contrary of what they say, and gives the reason.`,
		Example: "  recpie predict --run runs/quickstart > predictions.csv\n  recpie predict --run runs/quickstart --user 42 -o json\n  recpie predict --run runs/quickstart --hide-unfaithful -o json   once recpie audit has run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			torch.SetThreads(1)
			t, err := loadRun(cmd.Context(), c.Run)
			if err != nil {
				return err
			}
			defer t.Close()
			if c.Serve.HideUnfaithful {
				if err := t.HideUnfaithful(); err != nil {
					return err
				}
			}
			rows, err := t.Predict(cmd.Context(), user)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), rows, func(w io.Writer) {
				out := csv.NewWriter(w)
				_ = out.Write([]string{"user_id", "item_id", "title", "rating", "rating_sd", "true_rating", "positive", "negative", "positive_hidden", "negative_hidden"})
				for _, r := range rows {
					hidden := orchestrator.Hidden{}
					if r.Hidden != nil {
						hidden = *r.Hidden
					}
					_ = out.Write([]string{cell(r.User), cell(r.Item), cell(r.Title), fmt.Sprintf("%.3f", r.Rating), fmt.Sprintf("%.3f", r.SD), fmt.Sprintf("%.3g", r.TrueRating), cell(r.Positive), cell(r.Negative), hidden.Positive, hidden.Negative})
				}
				out.Flush()
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only this user's records")
	a.settingFlag(cmd, "hide-unfaithful", "serve.hide_unfaithful", "")
	return cmd
}

// cell keeps a text from being run as a formula by a spreadsheet.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (a *app) evaluateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "evaluate [RUN...]", Short: "Show the results of finished runs; several runs (seeds) with mean and standard error",
		Example: "  recpie evaluate runs/quickstart\n  recpie evaluate runs/quickstart-seed-*",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{c.Run}
			}
			var reports []*evaluate.Report
			for _, path := range args {
				_, r, err := finishedRun(path)
				if err != nil {
					return err
				}
				reports = append(reports, r)
			}
			if len(reports) == 1 {
				return a.print(cmd.OutOrStdout(), reports[0], func(w io.Writer) { fmt.Fprint(w, reports[0].Text()) })
			}
			sum, err := evaluate.Merge(reports)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), sum, func(w io.Writer) { fmt.Fprint(w, sum.Text()) })
		},
	}
}
