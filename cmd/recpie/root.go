package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/screen"
)

// usageError marks errors of the command line or the settings.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// app holds what the flags of the root command say.
type app struct {
	file   string
	set    []string
	output string
	flags  map[string]any // settings given by flags of their own
}

func newRoot() *cobra.Command {
	a := &app{flags: map[string]any{}}
	root := &cobra.Command{
		Use:   "recpie",
		Short: "Recommendation whose explanations are trained by the prediction error",
		Long: `RecPIE runs a loop: a language model writes for each (user, item) one sentence why the user would like it and one
why not; a network reads both with the usual features and predicts the rating; how much a sentence helped is the
reward that trains the language model by PPO; the user embeddings that the network learned become soft prompts.

Settings come from defaults, a preset, a YAML file (-c), RECPIE_* environment variables and flags; later ones win.`,
		Example: `  recpie train                                  the whole loop on MovieLens 100K, on this machine
  recpie train --explanations off               the network alone
  recpie train -c recpie.yaml                   against your own inference servers
  recpie explain --data my/data --run runs/my   only write explanations
  recpie data check my/data                     is this data set readable, and what is in it
  recpie doctor -c recpie.yaml                  what can the configured servers do`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	p := root.PersistentFlags()
	p.StringVarP(&a.file, "config", "c", "", "YAML file with settings")
	p.StringArrayVar(&a.set, "set", nil, "one setting, as policy.rounds=3 (repeatable)")
	p.StringVarP(&a.output, "output", "o", "text", "text or json")
	for _, f := range []struct{ name, key, short string }{
		{"preset", "preset", ""}, {"run", "run", ""}, {"seed", "seed", ""}, {"data", "data.path", "d"}, {"sample-pairs", "data.sample_pairs", ""},
	} {
		a.settingFlag(root, f.name, f.key, f.short)
	}
	root.AddCommand(a.trainCmd(), a.tuneCmd(), a.explainCmd(), a.workerCmd(), a.purgeCmd(), a.predictCmd(), a.auditCmd(), a.evaluateCmd(), a.dataCmd(), a.lmCmd(), a.adaptersCmd(), a.doctorCmd(), a.benchCmd(), a.configCmd(), versionCmd(a))
	strict(root)
	return root
}

// strict makes wrong arguments errors of usage, and so a misspelt command of a group, for which cobra would show the help and succeed.
func strict(cmd *cobra.Command) {
	if !cmd.Runnable() {
		cmd.Args = cobra.NoArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong
			if near := cmd.SuggestionsFor(args0(args)); len(near) > 0 {
				err = fmt.Errorf("%w; did you mean %q?", err, near[0])
			}
			return &usageError{err}
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

func args0(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// settingFlag gives a setting a flag of its own. Its text is checked as a value from a file would be.
func (a *app) settingFlag(cmd *cobra.Command, name, key, short string) {
	for _, k := range config.Keys() {
		if k.Name() != key {
			continue
		}
		f := cmd.PersistentFlags().VarPF(&settingValue{app: a, key: k}, name, short, fmt.Sprintf("%s [%s] (default %v)", k.Doc, key, k.Default))
		if k.Kind == "bool" {
			f.NoOptDefVal = "true"
		}
		return
	}
	panic("no setting " + key) // a slip in this file, found by any test
}

type settingValue struct {
	app  *app
	key  config.Key
	text string
}

func (v *settingValue) String() string { return v.text }
func (v *settingValue) Type() string   { return v.key.Kind }
func (v *settingValue) Set(s string) error {
	val, err := v.key.Parse(s)
	if err != nil {
		return err
	}
	v.text, v.app.flags[v.key.Name()] = s, val
	return nil
}

// load resolves the settings of this command line.
func (a *app) load() (*config.Config, error) {
	if a.output != "text" && a.output != "json" {
		return nil, &usageError{fmt.Errorf("--output is text or json, not %q", a.output)}
	}
	flags := map[string]any{}
	for _, s := range a.set {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			return nil, &usageError{fmt.Errorf("--set takes key=value, not %q", s)}
		}
		flags[name] = text
		for _, k := range config.Keys() {
			if k.Name() == name {
				val, err := k.Parse(text)
				if err != nil {
					return nil, &usageError{fmt.Errorf("--set %s: %w", name, err)}
				}
				flags[name] = val
			}
		}
	}
	for k, v := range a.flags {
		flags[k] = v
	}
	c, err := config.Load(config.Sources{File: a.file, Env: os.Environ(), Flags: flags})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// print writes v as JSON, or text for people. Neither holds what a terminal would obey: much of it comes from data and servers.
func (a *app) print(w io.Writer, v any, text func(io.Writer)) error {
	var b bytes.Buffer
	if a.output != "json" {
		text(&b)
		_, err := io.WriteString(w, screen.Text(b.String()))
		return err
	}
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, screen.JSON(b.String()))
	return err
}
