package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"recpie/adapters"
	"recpie/config"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/orchestrator"
)

// learned says which version of a run's policy writes a batch.
type learned struct{ from, version string }

func (l *learned) flags(fl *pflag.FlagSet) {
	fl.StringVar(&l.from, "from", "", "run whose language model writes, with its adapter and soft prompts; its settings are used unless -c names others")
	fl.StringVar(&l.version, "version", "", `version of the policy, by name, or "last" (default: that of the round which the run selected on validation)`)
}

// settings makes the run's own settings those of the batch, unless a file of settings was named.
func (l *learned) settings(a *app) error {
	if l.from == "" {
		if l.version != "" {
			return &usageError{errors.New("--version needs the run that the version belongs to: name it with --from")}
		}
		return nil
	}
	if file := filepath.Join(l.from, "config.yaml"); a.file == "" && exists(file) {
		a.file = file
	}
	return nil
}

// open finds the version: nil when the bare base model writes, which is also what a run may have selected.
func (l *learned) open(show *progress.Reporter) (*adapters.Version, error) {
	if l.from == "" {
		return nil, nil
	}
	if exists(filepath.Join(l.from, adapters.ManifestFile)) { // the folder of a version
		if l.version != "" {
			return nil, &usageError{fmt.Errorf("%s is a version already: --version is for runs", l.from)}
		}
		return adapters.OpenVersion(filepath.Clean(l.from))
	}
	run, err := config.Load(config.Sources{File: filepath.Join(l.from, "config.yaml")})
	if err != nil {
		return nil, &usageError{fault.WithHint(err, "name the directory of a run, or the folder of a version, with --from")}
	}
	name := l.version
	switch name {
	case "last":
		name, err = orchestrator.VersionAfter(l.from, 0)
	case "":
		name, err = l.selected(show)
	}
	if err != nil || name == "" {
		return nil, err
	}
	dir := versionsDir(run, l.from)
	if !exists(filepath.Join(dir, name)) {
		return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "version", "%s has no version %q", l.from, name), "its versions are the folders in "+dir)}
	}
	return adapters.OpenVersion(filepath.Join(dir, name))
}

// selected is the version whose explanations the run's report found best on validation, "" when those were the base model's.
func (l *learned) selected(show *progress.Reporter) (string, error) {
	report, err := evaluate.ReadReport(l.from)
	if errors.Is(err, os.ErrNotExist) {
		return "", &usageError{fault.WithHint(fault.Newf(fault.Fatal, "version", "%s has no report yet: it has selected no version", l.from), "finish the run, or name a version with --version")}
	}
	if err != nil {
		return "", fault.New(fault.Fatal, "version", err)
	}
	if report.SelectedRound == 0 {
		show.Printf("%s selected the explanations of the base model on validation: the base model writes (--version last takes the last version)", l.from)
		return "", nil
	}
	return orchestrator.VersionAfter(l.from, report.SelectedRound)
}

// locate sets what the servers call the folder of versions.
func (t *task) locate(local string) error {
	if t.version == nil || t.served != "" {
		return nil
	}
	if t.served = t.c.Publish.ServerDir; t.served != "" {
		return nil
	}
	abs, err := filepath.Abs(local)
	t.served = abs
	return fault.New(fault.Fatal, "version", err)
}

// install brings the version into the folder that servers read, where this machine has it.
func (t *task) install(local string) error {
	if t.version == nil || local == "" {
		return nil
	}
	store, err := adapters.OpenStore(local)
	if err != nil {
		return err
	}
	t.version, err = store.Import(t.version)
	return err
}

// writes names the author: the base model, or the version on top of it.
func (t *task) writes(base, baseID string) (who orchestrator.Author, newcomers int, err error) {
	who = orchestrator.Author{Model: base, Digest: "base " + baseID}
	if t.version == nil {
		return who, 0, nil
	}
	if from := t.version.Lineage.Base; from != baseID {
		return who, 0, fault.WithHint(fault.Newf(fault.Fatal, "version", "%s was trained on %q, the batch is for %q", t.version.Name, from, baseID),
			"use the settings of its run (leave -c out), and serve the base model under the name it had there")
	}
	return orchestrator.VersionAuthor(who, t.version, t.c.Inference.SoftPrompts, t.w.Data.Users)
}

// adopt makes every server serve the version before anything is asked, or sees that it serves what was merged of it, and says how its soft prompts travel.
func (t *task) adopt(ctx context.Context, newcomers int, show *progress.Reporter) error {
	if t.version == nil {
		return nil
	}
	t.assured = &adapters.Assurance{Version: t.version, ServerDir: t.served, Base: t.b.base}
	t.assured.Expect(t.canaries)
	assure := func(kind, url string, r adapters.Replica) error {
		err := t.assured.Assure(ctx, kind, r)
		if err == nil {
			return nil
		}
		if fault.ClassOf(err) == fault.Item { // a refusal: no row is asked yet
			err = fault.New(fault.Fatal, "version", err)
		}
		if fault.HintOf(err) == "" {
			err = fault.WithHint(err, fmt.Sprintf("the server must find %s/%s: share the folder of versions with it (publish.local_dir here, publish.server_dir there; a worker takes RECPIE_PUBLISH_LOCAL_DIR)", t.served, t.version.Name))
		}
		return fmt.Errorf("inference server %s: %w", url, err)
	}
	switch {
	case !t.version.HasAdapter():
	case t.b.merged:
		if err := t.b.servedMerged(ctx, t.version.Name, filepath.Join(t.served, mergedDir, t.version.Name)); err != nil {
			return err
		}
	default:
		for i, url := range t.b.urls {
			r, err := t.b.replica(ctx, i)
			if err != nil {
				return err
			}
			if err := assure("vllm", url, r); err != nil {
				return err
			}
			guard := t.b.guards[i]
			guard.Model, guard.Assure = t.version.Name, func(ctx context.Context) error { return t.assured.Assure(ctx, "vllm", r) }
		}
		for i, url := range t.b.fixedURLs {
			if err := assure("tgi", url, orchestrator.TGIReplica{Server: t.b.fixed[i], Text: canaryText}); err != nil {
				return err
			}
		}
	}
	show.Printf("version %s writes; soft prompts: %s", t.version.Name, t.soft())
	if newcomers > 0 {
		show.Printf("%d of %d users came after the version: they get the soft prompt of an unknown user", newcomers, len(t.w.Data.Users))
	}
	return nil
}

// soft says how the soft prompts of the batch travel.
func (t *task) soft() string {
	switch {
	case t.batch == nil || t.batch.Author.Soft == nil:
		return "none"
	case len(t.b.fixed) == 0:
		return "as rows"
	case len(t.b.admin) == 0:
		return "as a line of words about the user, because TGI takes no rows"
	}
	return "as rows, and to " + strings.Join(t.b.fixedURLs, ", ") + " as a line of words about the user, because TGI takes no rows"
}

// fetchVersion brings the version of a job out of the database. own is the folder of versions that this machine's settings name.
func (t *task) fetchVersion(ctx context.Context, db *queue.DB, j job, own string) (local string, err error) {
	if j.Policy == "" {
		return "", nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	if j.PolicyName != filepath.Base(j.PolicyName) {
		return "", fault.Newf(fault.Fatal, "version", "%q is no name of a version", j.PolicyName)
	}
	dir := filepath.Join(blobPath(cache, "version", j.Policy), j.PolicyName)
	if err := unpack(ctx, db, j.Policy, dir); err != nil {
		return "", err
	}
	if t.version, err = adapters.OpenVersion(dir); err != nil {
		return "", err
	}
	t.served, t.canaries = j.Served, j.Canaries
	switch {
	case own != "":
		return own, nil
	case t.c.Publish.LocalDir != "" && exists(t.c.Publish.LocalDir):
		return t.c.Publish.LocalDir, nil
	}
	return "", nil // the servers have the version from elsewhere
}
