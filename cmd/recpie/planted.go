package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"recpie/internal/dataset"
	"recpie/internal/dataset/planted"
	"recpie/internal/durable"
	"recpie/internal/fault"
)

func (a *app) plantedCmd() *cobra.Command {
	var out string
	var cfg planted.Config
	cmd := &cobra.Command{
		Use: "planted", Short: "Write a made-up data set whose truth is known", Args: cobra.NoArgs,
		Long: `Planted writes a domain in which every user cares about one attribute of a restaurant and rates by it, as dataset.yaml with
interactions.csv and items.csv. It shows whether the loop finds what is there to be found. truth.csv, which no run reads, says what
each user cares about.`,
		Example: "  recpie data planted --out data/planted --seed 1\n  recpie train --data data/planted --run runs/planted",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			if out == "" {
				return &usageError{errors.New("name the folder to write with --out")}
			}
			cfg.Seed = c.Seed
			d, err := planted.New(cfg)
			if err != nil {
				return &usageError{err}
			}
			if err := writePlanted(d, out); err != nil {
				return err
			}
			sum := map[string]any{"dir": out, "seed": cfg.Seed, "users": len(d.Dataset.Users), "items": len(d.Dataset.Items), "records": len(d.Dataset.Records)}
			return a.print(cmd.OutOrStdout(), sum, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d users, %d items, %d records\n", out, len(d.Dataset.Users), len(d.Dataset.Items), len(d.Dataset.Records))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "folder to write, which must not exist yet")
	f.IntVar(&cfg.Users, "users", 200, "number of users")
	f.IntVar(&cfg.Items, "items", 100, "number of items")
	f.IntVar(&cfg.PerUser, "per-user", 25, "items that a user rates")
	return cmd
}

// writePlanted writes a domain in the common form: what dataset.Load reads from it is d.Dataset, but for the name, which is the folder's.
func writePlanted(d *planted.Domain, dir string) error {
	if exists(dir) {
		return fault.WithHint(fault.Newf(fault.Fatal, "data", "%s is there already", dir), "choose another folder with --out")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fault.New(fault.Fatal, "data", err)
	}
	ds := d.Dataset
	spec := fmt.Sprintf("domain: %s\nverb: %s\nrating: {min: %g, max: %g}\ninteractions: interactions.csv\nitems: items.csv\nitem_inputs: [%s]\n",
		ds.Spec.Domain, ds.Spec.Verb, ds.Spec.Min, ds.Spec.Max, strings.Join(ds.Spec.ItemInputs, ", "))
	items := [][]string{{"item_id", "title", "categories"}}
	for _, it := range ds.Items {
		items = append(items, []string{it.ID, it.Title, strings.Join(it.Categories, "|")})
	}
	truth := [][]string{{"user_id", "cares_about"}}
	for u, attribute := range d.Cares {
		truth = append(truth, []string{ds.Users[u], d.Attributes[attribute]})
	}
	return durable.ReplaceDir(dir, func(tmp string) error {
		if err := durable.WriteFile(filepath.Join(tmp, "dataset.yaml"), []byte(spec), 0o644); err != nil {
			return err
		}
		for name, rows := range map[string][][]string{"interactions.csv": interactions(ds), "items.csv": items, "truth.csv": truth} {
			err := durable.Write(filepath.Join(tmp, name), 0o644, func(w io.Writer) error { return csv.NewWriter(w).WriteAll(rows) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// interactions lists the rated pairs in the order of their rows.
func interactions(ds *dataset.Dataset) [][]string {
	all := make([]int32, len(ds.Records))
	for i := range all {
		all[i] = int32(i)
	}
	y := ds.Labels(all)
	rows := make([][]string, len(all)+1)
	rows[0] = []string{"user_id", "item_id", "rating", "timestamp"}
	for i, r := range ds.Records {
		rows[1+r.Row] = []string{ds.Users[r.User], ds.Items[r.Item].ID, strconv.FormatFloat(ds.Spec.Rating(float64(y[i])), 'g', -1, 64), strconv.FormatInt(r.Time, 10)}
	}
	return rows
}
