package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"recpie/adapters"
	"recpie/config"
	"recpie/internal/fault"
	"recpie/orchestrator"
)

func (a *app) adaptersCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "adapters", Short: "The versions of a run's policy: list, compare, publish, roll back, clean up",
		Long: `A version is what one step of training left: the adapter of the language model and the soft prompts, with their digests and where they come
from. It lies in the run's folder of versions (publish.local_dir, or adapters/ in the run). Which version is in service is recorded there.`,
		Example: "  recpie adapters list --run runs/my\n  recpie adapters publish --run runs/my last",
	}
	cmd.AddCommand(a.adaptersListCmd(), a.adaptersShowCmd(), a.adaptersPublishCmd(), a.adaptersRollbackCmd(), a.adaptersDiffCmd(), a.adaptersPinCmd(), a.adaptersGCCmd())
	return cmd
}

// shelf is a run's folder of versions.
type shelf struct {
	c       *config.Config
	store   *adapters.Store
	service *adapters.Service
	dir     string
}

// shelf opens the versions of the run that the settings name: its own settings, unless -c names others.
func (a *app) shelf() (*shelf, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	run := c.Run
	if own := filepath.Join(run, "config.yaml"); a.file == "" && exists(own) {
		a.file = own
		if c, err = a.load(); err != nil {
			return nil, err
		}
	}
	dir := versionsDir(c, run)
	if !exists(dir) {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "no versions in %s", dir), "name a run that has made a step of training with --run")}
	}
	c.Run = run
	s := &shelf{c: c, dir: dir}
	if s.store, err = adapters.OpenStore(dir); err != nil {
		return nil, err
	}
	s.service, err = s.store.ReadService()
	return s, err
}

// find opens a version by its name, a part of it that no other has, "last" or "active".
func (s *shelf) find(name string) (*adapters.Version, error) {
	names, err := s.store.List()
	if err != nil {
		return nil, err
	}
	var found []string
	switch name {
	case "last":
		found = names[max(0, len(names)-1):]
	case "active":
		if found = []string{s.service.Active()}; found[0] == "" {
			return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "nothing of %s is in service", s.dir), "put a version there with 'recpie adapters publish'")}
		}
	default:
		for _, n := range names {
			if n == name {
				return s.store.Open(n)
			}
			if strings.Contains(n, name) {
				found = append(found, n)
			}
		}
	}
	if len(found) != 1 {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "%q names %d of the %d versions in %s", name, len(found), len(names), s.dir), "'recpie adapters list' shows their names")}
	}
	return s.store.Open(found[0])
}

// versionView is a version as it is printed.
type versionView struct {
	Name    string            `json:"name"`
	Number  int               `json:"number"`
	Active  bool              `json:"active"`
	Pinned  bool              `json:"pinned"`
	Lineage adapters.Lineage  `json:"lineage"`
	Files   map[string]string `json:"files"`
	Served  []adapters.Served `json:"served,omitempty"`
}

func (s *shelf) view(v *adapters.Version) versionView {
	out := versionView{Name: v.Name, Number: v.Number, Active: v.Name == s.service.Active(), Pinned: slices.Contains(s.service.Pinned, v.Name), Lineage: v.Lineage, Files: v.Files}
	for _, h := range s.service.History {
		if h.Version == v.Name {
			out.Served = append(out.Served, h)
		}
	}
	return out
}

func (a *app) adaptersListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the versions, oldest first", Args: cobra.NoArgs, Example: "  recpie adapters list --run runs/my\n  recpie adapters list --run runs/my -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			names, err := s.store.List()
			if err != nil {
				return err
			}
			views := make([]versionView, 0, len(names))
			for _, n := range names {
				v, err := s.store.Open(n)
				if err != nil {
					return err
				}
				views = append(views, s.view(v))
			}
			return a.print(cmd.OutOrStdout(), views, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "VERSION\tROUND\tSTEP\tADAPTER\tSOFT PROMPTS\tSTATE")
				for _, v := range views {
					fmt.Fprintf(t, "%s\t%d\t%d\t%.12s\t%.12s\t%s\n", v.Name, v.Lineage.Round, v.Lineage.Step, v.Files[adapters.WeightsFile], v.Files[adapters.SoftFile], v.state())
				}
				_ = t.Flush()
			})
		},
	}
}

func (v versionView) state() string {
	var words []string
	if v.Active {
		words = append(words, "active")
	}
	if v.Pinned {
		words = append(words, "pinned")
	}
	return strings.Join(words, ", ")
}

func (a *app) adaptersShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show VERSION", Short: "Show a version: digests, where it comes from, when it was in service", Args: cobra.ExactArgs(1),
		Example: "  recpie adapters show --run runs/my last\n  recpie adapters show --run runs/my v000012",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			v, err := s.find(args[0])
			if err != nil {
				return err
			}
			view := s.view(v)
			return a.print(cmd.OutOrStdout(), view, func(w io.Writer) {
				l := v.Lineage
				fmt.Fprintf(w, "%s  %s\nrun %s, round %d, step %d, base %s, split %.12s, parent %s\n", v.Name, view.state(), l.Run, l.Round, l.Step, l.Base, l.SplitDigest, orNone(l.Parent))
				for _, file := range []string{adapters.ConfigFile, adapters.WeightsFile, adapters.SoftFile} {
					if d := v.Files[file]; d != "" {
						fmt.Fprintf(w, "%s  %s\n", d, file)
					}
				}
				for _, h := range view.Served {
					fmt.Fprintf(w, "in service since %s on %s\n", h.Time.Format("2006-01-02 15:04:05"), strings.Join(h.Servers, ", "))
				}
			})
		},
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (a *app) adaptersDiffCmd() *cobra.Command {
	return &cobra.Command{
		Use: "diff VERSION VERSION", Short: "Compare two versions: settings, weights, soft prompts", Args: cobra.ExactArgs(2),
		Example: "  recpie adapters diff --run runs/my v000001 last",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			var v [2]*adapters.Version
			for i := range v {
				if v[i], err = s.find(args[i]); err != nil {
					return err
				}
			}
			d, err := adapters.Diff(v[0], v[1])
			if err != nil {
				return err
			}
			out := map[string]any{"a": v[0].Name, "b": v[1].Name, "same_adapter": d.SameAdapter, "same_soft_prompts": d.SameSoft, "settings": d.Settings,
				"lineage": map[string]any{"a": v[0].Lineage, "b": v[1].Lineage}}
			number := func(key string, x float64) {
				if !math.IsNaN(x) && !math.IsInf(x, 0) {
					out[key] = x
				}
			}
			number("adapter_relative", d.Adapter.Relative)
			number("adapter_cosine", d.Adapter.Cosine)
			number("soft_rows_distance", d.SoftRows)
			number("soft_rows_norm", d.SoftNorm)
			return a.print(cmd.OutOrStdout(), out, func(w io.Writer) {
				fmt.Fprintf(w, "%s: round %d, step %d\n%s: round %d, step %d\n", v[0].Name, v[0].Lineage.Round, v[0].Lineage.Step, v[1].Name, v[1].Lineage.Round, v[1].Lineage.Step)
				switch {
				case d.SameAdapter:
					fmt.Fprintln(w, "adapter: the same")
				case d.Tensors == nil:
					fmt.Fprintf(w, "adapter: cannot be compared (%s differ)\n", strings.Join(d.Settings, ", "))
				default:
					fmt.Fprintf(w, "adapter: ‖b−a‖/‖a‖ %.3g, cosine %.4f\n", d.Adapter.Relative, d.Adapter.Cosine)
					for _, t := range d.Tensors[:min(5, len(d.Tensors))] {
						fmt.Fprintf(w, "  %.3g  %.4f  %s\n", t.Relative, t.Cosine, t.Name)
					}
				}
				switch {
				case d.SameSoft:
					fmt.Fprintln(w, "soft prompts: the same")
				case !math.IsNaN(d.SoftRows):
					fmt.Fprintf(w, "soft prompts: rows %.3g apart, of length %.3g\n", d.SoftRows, d.SoftNorm)
				}
			})
		},
	}
}

func (a *app) adaptersPinCmd() *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use: "pin VERSION", Short: "Keep a version from garbage collection", Args: cobra.ExactArgs(1),
		Example: "  recpie adapters pin --run runs/my last\n  recpie adapters pin --run runs/my --off v000003",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			v, err := s.find(args[0])
			if err != nil {
				return err
			}
			if err := s.service.Pin(v.Name, !off); err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), s.view(v), func(w io.Writer) { fmt.Fprintf(w, "%s: pinned %t\n", v.Name, !off) })
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "let it go again")
	return cmd
}

func (a *app) adaptersGCCmd() *cobra.Command {
	var keep int
	var dry bool
	cmd := &cobra.Command{
		Use: "gc", Short: "Delete old versions", Args: cobra.NoArgs,
		Long: `Gc deletes all versions but the newest --keep, the one in service and the one before it, those that are pinned, and those that a checkpoint
of the run names.`,
		Example: "  recpie adapters gc --run runs/my --keep 10 --dry-run\n  recpie adapters gc --run runs/my --keep 10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			if keep < 1 {
				return &usageError{fmt.Errorf("--keep %d: at least one version stays", keep)}
			}
			named, err := orchestrator.NamedVersions(s.c.Run)
			if err != nil {
				return err
			}
			names, err := s.store.Garbage(keep, named)
			if err != nil {
				return err
			}
			for _, n := range names {
				if dry {
					break
				}
				if err := s.store.Remove(n); err != nil {
					return err
				}
			}
			verb := map[bool]string{false: "deleted", true: "would be deleted"}[dry]
			return a.print(cmd.OutOrStdout(), map[string]any{"versions": append([]string{}, names...), "dry_run": dry}, func(w io.Writer) {
				fmt.Fprintf(w, "%d versions %s\n", len(names), verb)
				for _, n := range names {
					fmt.Fprintln(w, n)
				}
			})
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 5, "newest versions that stay")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be deleted")
	return cmd
}
