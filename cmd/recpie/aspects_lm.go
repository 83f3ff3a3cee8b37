package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/torch"
	"recpie/orchestrator"
)

// lmLine is a line of terms that a model named, of a record or of an item.
type lmLine struct {
	User  string   `json:"user_id,omitempty"`
	Item  string   `json:"item_id"`
	Row   *int     `json:"row,omitempty"`
	Terms []string `json:"terms"`
	Why   string   `json:"why,omitempty"` // there are none
}

// lmSummary counts what a model named.
type lmSummary struct {
	Of        string         `json:"of"`
	Lines     int            `json:"lines"`
	WithTerms int            `json:"with_terms"`
	New       int            `json:"new"` // questions asked in this call
	Tokens    int            `json:"tokens"`
	Rejected  map[string]int `json:"rejected"`
	Model     string         `json:"model"`
	View      string         `json:"view"`
	File      string         `json:"file,omitempty"`
	Top       []termCount    `json:"top"`
}

type termCount struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func (a *app) aspectsByLM(cmd *cobra.Command, path string, f aspecting) error {
	ctx := cmd.Context()
	a.flags["data.path"] = path
	c, err := a.load()
	if err != nil {
		return err
	}
	if c.Prompts.Redact {
		return &usageError{fault.WithHint(fault.Newf(fault.Fatal, "aspects", "prompts.redact keeps reviews from the model, and --by lm sends them"), "use the built-in way, or set prompts.redact: false")}
	}
	torch.SetThreads(1)
	show := progress.New(cmd.ErrOrStderr())
	defer show.Close()
	view, w, err := readFor(ctx, c, f.final)
	if err != nil {
		return err
	}
	warnReviews(ctx, cmd, c, "reviews")
	db, err := f.asking.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := served(ctx, c, w, show)
	if err != nil {
		return err
	}
	defer b.close()
	asker := askerOf(c, b, db, show, "terms of "+f.of)
	var found []orchestrator.LMTerms
	ds := view.Dataset()
	recs, items := view.Records(), make([]int32, len(ds.Items))
	for i := range items {
		items[i] = int32(i)
	}
	if f.of == "items" {
		found, err = asker.ItemTerms(ctx, view, items)
	} else {
		found, err = asker.ReviewTerms(ctx, view, recs)
	}
	if err != nil {
		return err
	}
	line := func(i int) lmLine {
		l := lmLine{Terms: found[i].Terms, Why: screenLine(found[i].Reason)}
		if l.Terms == nil {
			l.Terms = []string{}
		}
		if f.of == "items" {
			l.Item = ds.Items[i].ID
			return l
		}
		r := ds.Records[recs[i]]
		l.User, l.Item, l.Row = ds.Users[r.User], ds.Items[r.Item].ID, &r.Row
		return l
	}
	err = writeOut(cmd, f.out, func(out io.Writer) error {
		e := aspects.NewEncoder(out)
		for i := range found {
			if err := e.Encode(line(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum := summarise(found, f.top)
	sum.Of, sum.Model, sum.View, sum.File = f.of, b.base, view.Digest(), f.out
	return a.print(beside(cmd, f.out), sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d %s, %d with terms; %d questions asked, %d tokens\n", sum.Lines, sum.Of, sum.WithTerms, sum.New, sum.Tokens)
		for _, why := range slices.Sorted(maps.Keys(sum.Rejected)) {
			fmt.Fprintf(w, "%7d without terms: %s\n", sum.Rejected[why], why)
		}
		for _, t := range sum.Top {
			fmt.Fprintf(w, "%-24s %7d\n", t.Name, t.N)
		}
	})
}

// readFor reads what questions about reviews are made of, and where the embedded model must be warmed up, what that takes.
func readFor(ctx context.Context, c *config.Config, final bool) (*dataset.View, *orchestrator.Workspace, error) {
	if len(c.Inference.Endpoints) > 0 {
		view, err := reviews(ctx, c, c.Data.Path, final)
		return view, nil, err
	}
	w, err := prepareText(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if w.Data.Spec.Review == "" {
		return nil, nil, fault.WithHint(fault.Newf(fault.Fatal, "data", "%s has no reviews", c.Data.Path), "name their column as review in dataset.yaml")
	}
	if final {
		return w.Final.View, w, nil
	}
	return w.Train.View, w, nil
}

// prepareText reads all records of the data for prompts alone.
func prepareText(ctx context.Context, c *config.Config) (*orchestrator.Workspace, error) {
	path, err := dataPath(c.Data.Path)
	if err != nil {
		return nil, err
	}
	s := dataSettings(c)
	s.Path, s.SamplePairs, s.MaxRecords, s.TextOnly = path, 0, 0, true
	return orchestrator.Prepare(ctx, s)
}

func summarise(found []orchestrator.LMTerms, top int) *lmSummary {
	sum := &lmSummary{Lines: len(found), Rejected: map[string]int{}}
	n := map[string]int{}
	for _, t := range found {
		if t.New {
			sum.New++
			sum.Tokens += t.Tokens
		}
		if t.Reason != "" {
			reason, _, _ := strings.Cut(t.Reason, ":") // refusals differ by their figures
			sum.Rejected[reason]++
			continue
		}
		sum.WithTerms++
		for _, name := range t.Terms {
			n[name]++
		}
	}
	for name, k := range n {
		sum.Top = append(sum.Top, termCount{name, k})
	}
	slices.SortFunc(sum.Top, func(a, b termCount) int { return cmp.Or(b.N-a.N, strings.Compare(a.Name, b.Name)) })
	sum.Top = sum.Top[:min(top, len(sum.Top))]
	return sum
}
