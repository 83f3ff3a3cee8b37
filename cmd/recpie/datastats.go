package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"recpie/internal/dataset"
	"recpie/internal/dataset/catalog"
	"recpie/internal/dataset/stats"
	"recpie/internal/durable"
)

func (a *app) statsCmd() *cobra.Command {
	var html string
	cmd := &cobra.Command{
		Use: "stats PATH", Short: "Describe a data set as papers do", Args: cobra.ExactArgs(1),
		Long: `Stats prints the numbers of records, users and items, the period, the rating scale, the density, how records are spread over users and items,
and what the split of the protocol makes of the set: sizes, history lengths, cold items, ties at the cut.

Ratings, review texts and aspect terms are counted over the training and validation records alone: test outcomes stay unseen here too.`,
		Example: "  recpie data stats ml-100k\n  recpie data stats data/yelp-restaurants -o json\n  recpie data stats my/data --html stats.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.load(); err != nil {
				return err
			}
			path, err := dataPath(args[0])
			if err != nil {
				return err
			}
			ds, _, err := dataset.Load(cmd.Context(), path, dataset.Options{})
			if err != nil {
				return err
			}
			s := stats.Of(ds)
			if html != "" {
				page, err := s.HTML()
				if err != nil {
					return err
				}
				if err := durable.WriteFile(html, page, 0o644); err != nil {
					return err
				}
			}
			return a.print(cmd.OutOrStdout(), s, func(w io.Writer) { _ = s.WriteText(w) })
		},
	}
	cmd.Flags().StringVar(&html, "html", "", "write a page with plots to this file as well")
	return cmd
}

func (a *app) getCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get [NAME]", Short: "Say where a public data set comes from and how to import it", Args: cobra.MaximumNArgs(1),
		Long: `Get says who publishes a data set, under which terms, which files to fetch, and the command that imports them. Without a name it lists the sets.

It downloads nothing: the terms of most sets want a person to accept them.`,
		Example: "  recpie data get\n  recpie data get yelp\n  recpie data get amazon-movies-2023 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.load(); err != nil {
				return err
			}
			if len(args) == 0 {
				return a.print(cmd.OutOrStdout(), catalog.All(), func(w io.Writer) {
					for _, s := range catalog.All() {
						fmt.Fprintf(w, "%-20s %s\n", s.Name, s.Title)
					}
				})
			}
			s, err := catalog.Find(args[0])
			if err != nil {
				return &usageError{err}
			}
			return a.print(cmd.OutOrStdout(), s, func(w io.Writer) { _ = s.WriteText(w) })
		},
	}
}
