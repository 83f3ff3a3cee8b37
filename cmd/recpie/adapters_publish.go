package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"recpie/adapters"
	"recpie/internal/fault"
)

func (a *app) adaptersPublishCmd() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "publish [VERSION]", Short: "Put a version into service on all inference servers, or on none", Args: cobra.MaximumNArgs(1),
		Long: `Publish loads a version (default: the last) on every server of inference.endpoints, holds each to the log probabilities of a canary text, and
only then makes it the active one; the version before is taken away. When any server fails, the version is taken away again everywhere and the
one before stays in service. The servers must see the folder of versions: publish.local_dir here, publish.server_dir there. With --from a PEFT
folder made elsewhere becomes a version first.`,
		Example: "  recpie adapters publish --run runs/my last\n  recpie adapters publish --run runs/my -c cluster.yaml v000012\n  recpie adapters publish --run runs/my --from some/peft-folder",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			var v *adapters.Version
			switch {
			case from != "" && len(args) > 0:
				return &usageError{fmt.Errorf("--from makes a version of a folder: a version beside it is one too many")}
			case from != "":
				v, err = s.adopt(from)
			case len(args) == 0:
				v, err = s.find("last")
			default:
				v, err = s.find(args[0])
			}
			if err != nil {
				return err
			}
			return a.serve(cmd, s, v)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "PEFT folder to make a version of: adapter_config.json and adapter_model.safetensors")
	return cmd
}

func (a *app) adaptersRollbackCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rollback [VERSION]", Short: "Put an older version back into service, by default the one before", Args: cobra.MaximumNArgs(1),
		Example: "  recpie adapters rollback --run runs/my\n  recpie adapters rollback --run runs/my v000004",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.shelf()
			if err != nil {
				return err
			}
			name := s.service.Before()
			if len(args) > 0 {
				name = args[0]
			}
			if name == "" {
				return &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "no version was in service before %s", orNone(s.service.Active())), "name the version to put into service")}
			}
			v, err := s.find(name)
			if err != nil {
				return err
			}
			return a.serve(cmd, s, v)
		},
	}
}

// adopt makes a version of a PEFT folder, after the newest one.
func (s *shelf) adopt(dir string) (*adapters.Version, error) {
	names, err := s.store.List()
	if err != nil {
		return nil, err
	}
	number, parent := 0, ""
	if len(names) > 0 {
		last, err := s.store.Open(names[len(names)-1])
		if err != nil {
			return nil, err
		}
		number, parent = last.Number+1, last.Name
	}
	return s.store.Write(number, adapters.Lineage{Run: "imported from " + filepath.Base(filepath.Clean(dir)), Base: s.c.Inference.Model, Parent: parent}, dir, nil)
}

// serve puts a version into service and records it.
func (a *app) serve(cmd *cobra.Command, s *shelf, v *adapters.Version) error {
	servers, err := s.publish(cmd.Context(), v)
	if err != nil {
		return err
	}
	if s.service.Active() != v.Name {
		if err := s.service.Note(adapters.Served{Version: v.Name, Digest: v.Files[adapters.WeightsFile], Time: time.Now().UTC().Truncate(time.Second), Servers: servers}); err != nil {
			return err
		}
	}
	return a.print(cmd.OutOrStdout(), s.view(v), func(w io.Writer) { fmt.Fprintf(w, "%s is in service on %d servers\n", v.Name, len(servers)) })
}

// publish brings a version to all servers of the settings.
func (s *shelf) publish(ctx context.Context, v *adapters.Version) ([]string, error) {
	c := s.c
	if len(c.Inference.Endpoints) == 0 {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "no inference server is configured"), "name inference.endpoints in a file and give it with -c")}
	}
	frozen := *c
	frozen.Training.Frozen = true // no training server is needed
	b, err := connect(ctx, &frozen, nil, "", "", nil)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if len(b.fixed) > 0 {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "adapters", "%s takes no adapter while it runs", b.fixedURLs[0]), "start TGI with the adapter (LORA_ADAPTERS), and leave it out here")}
	}
	root, err := filepath.Abs(s.dir)
	if err != nil {
		return nil, fault.New(fault.Fatal, "adapters", err)
	}
	p, err := b.publisher(ctx, c, root)
	if err != nil {
		return nil, err
	}
	if name := s.service.Active(); name != "" && name != v.Name {
		if old, err := s.store.Open(name); err == nil {
			p.Resume(ctx, old)
		}
	}
	if err := p.Publish(ctx, v); err != nil {
		if fault.HintOf(err) == "" {
			err = fault.WithHint(err, "every server must find the folder of versions under publish.server_dir; 'recpie doctor' tells what they can do")
		}
		return nil, err
	}
	return b.urls, nil
}
