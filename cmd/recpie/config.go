package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) configCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show or check the settings", Example: "  recpie config show\n  recpie config validate -c recpie.yaml"}
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Print the resolved settings, each with its meaning", Args: cobra.NoArgs,
			Example: "  recpie config show --preset llama-3.1-8b > recpie.yaml",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.load()
				if err != nil {
					return err
				}
				text, err := c.YAML()
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), c, func(w io.Writer) { _, _ = w.Write(text) })
			},
		},
		&cobra.Command{
			Use: "validate", Short: "Check a settings file, naming file and line of what is wrong", Args: cobra.NoArgs,
			Example: "  recpie config validate -c recpie.yaml",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.load()
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), map[string]any{"valid": true, "preset": c.Preset}, func(w io.Writer) {
					fmt.Fprintf(w, "valid (preset %s)\n", c.Preset)
				})
			},
		})
	return cmd
}

func versionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: "  recpie version\n  recpie version -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := version()
			return a.print(cmd.OutOrStdout(), v, func(w io.Writer) {
				fmt.Fprintf(w, "recpie %s (%s, %s/%s)\n", v["revision"], v["go"], v["os"], v["arch"])
			})
		},
	}
}

// version says what this program was built of.
func version() map[string]string {
	v := map[string]string{"go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "revision": "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v["revision"] = s.Value
			}
		}
	}
	return v
}
