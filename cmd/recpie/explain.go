package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/store"
	"recpie/internal/torch"
	"recpie/orchestrator"
	"recpie/prompts"
)

func (a *app) explainCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "explain", Short: "Write both explanations of every pair with the model as it is served", Args: cobra.NoArgs,
		Long: `Explain asks the configured inference servers (or the embedded one) for both explanations of every record of the split, or of
a sample of users, stores each once in explanations.db of the run directory and exports them as JSON lines. The same command
continues an interrupted run.`,
		Example: `  recpie explain --run runs/first --sample-pairs 500
  recpie explain -c recpie.yaml --run runs/llama --out explanations.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.load()
			if err != nil {
				return err
			}
			torch.SetThreads(1)
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			dir, err := openRun(c)
			if err != nil {
				return err
			}
			defer dir.Close()
			w, err := prepare(ctx, c)
			if err != nil {
				return err
			}
			c.Training.Frozen = true
			b, err := connect(ctx, c, w, dir.Path("lm"), dir.Path("adapters"), show)
			if err != nil {
				return err
			}
			defer b.close()
			db, err := store.Open(ctx, dir.Path("explanations.db"))
			if err != nil {
				return err
			}
			defer db.Close()
			var task *progress.Task
			x := &orchestrator.Explainer{Work: w, Store: db, Model: b.fleet, Concurrency: c.Inference.Concurrency, MaxTokens: c.Inference.MaxTokens,
				Progress: func(total, done int) func(int) {
					task = show.Start("explanations", int64(total), int64(done))
					return func(n int) { task.Add(int64(n)) }
				}}
			e, err := x.Explain(ctx, "round-0", w.Pairs(), orchestrator.Author{Model: b.base, Digest: "base " + b.baseID})
			if err != nil {
				return err
			}
			task.Done("")
			if out == "" {
				out = dir.Path("explanations.jsonl")
			}
			if err := export(w, e, out); err != nil {
				return err
			}
			sum := map[string]any{"pairs": len(e.Recs), "rejected": e.Rejected, "tokens": e.Tokens, "file": out}
			return a.print(cmd.OutOrStdout(), sum, func(to io.Writer) {
				fmt.Fprintf(to, "%d pairs, %d tokens, rejected %v\n%s\n", len(e.Recs), e.Tokens, e.Rejected, out)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to export to (default explanations.jsonl in the run directory)")
	return cmd
}

// export writes one JSON object per pair.
func export(w *orchestrator.Workspace, e *orchestrator.Explained, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.New(fault.Fatal, "export", err)
	}
	return durable.Write(path, 0o644, func(to io.Writer) error {
		enc := json.NewEncoder(to)
		for i, r := range e.Recs {
			rec := w.Data.Records[r]
			err := enc.Encode(struct {
				User     string `json:"user_id"`
				Item     string `json:"item_id"`
				Positive string `json:"positive"`
				Negative string `json:"negative"`
			}{w.Data.Users[rec.User], w.Data.Items[rec.Item].ID, e.Text[prompts.Positive][i], e.Text[prompts.Negative][i]})
			if err != nil {
				return fault.New(fault.Fatal, "export", err)
			}
		}
		return nil
	})
}
