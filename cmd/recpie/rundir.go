package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/config"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
	"recpie/orchestrator"
	"recpie/recommender/encoder"
)

// openRun takes the run directory and holds it to the settings it was begun with.
func openRun(c *config.Config) (*orchestrator.RunDir, error) {
	dir, err := orchestrator.OpenRunDir(c.Run)
	if err != nil {
		return nil, err
	}
	text, err := c.Lasting().YAML()
	if err == nil {
		err = dir.Pin("config.yaml", text)
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// finishedRun reads the settings and the report of a run directory.
func finishedRun(path string) (*config.Config, *evaluate.Report, error) {
	c, err := config.Load(config.Sources{File: filepath.Join(path, "config.yaml")})
	if err != nil {
		return nil, nil, &usageError{err}
	}
	report, err := evaluate.ReadReport(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fault.WithHint(fault.Newf(fault.Fatal, "run", "%s has no report yet", path), "finish the run first: recpie train -c "+filepath.Join(path, "config.yaml"))
	}
	if err != nil {
		return nil, nil, fault.New(fault.Fatal, "run", err)
	}
	c.Run = path
	return c, report, nil
}

func threads(c *config.Config) int {
	if c.LM.Threads > 0 {
		return c.LM.Threads
	}
	return runtime.NumCPU()
}

// sentenceEncoder is an encoder on this machine or behind an endpoint.
type sentenceEncoder interface {
	orchestrator.Embedder
	Close() error
}

// encoderRequests is how many requests an embeddings endpoint gets at a time.
const encoderRequests = 8

// openEncoder opens the sentence encoder; its vectors are cached for all runs.
func openEncoder(ctx context.Context, c *config.Config) (sentenceEncoder, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	vectors := filepath.Join(cache, "vectors")
	if err := os.MkdirAll(vectors, 0o755); err != nil {
		return nil, fault.New(fault.Fatal, "encoder", err)
	}
	if c.Encoder.Endpoint != "" {
		return dialEncoder(ctx, c, vectors)
	}
	dir := c.Encoder.Dir
	if dir == "" {
		if dir = filepath.Join(cache, "minilm"); !exists(dir) {
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "encoder", "no sentence encoder in %s", dir), "run 'make setup', or name a folder in encoder.dir")
		}
	}
	return encoder.Open(dir, vectors, c.Encoder.Device)
}

// dialEncoder opens the encoder behind an embeddings endpoint.
func dialEncoder(ctx context.Context, c *config.Config, vectors string) (sentenceEncoder, error) {
	key, err := transport.SecretFromEnv(c.Encoder.KeyEnv)
	if err != nil {
		return nil, &usageError{err}
	}
	if text := encoderLeaving(ctx, c, nil); text != "" {
		say(text)
	}
	cl, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: c.Encoder.Endpoint, Key: key, MaxConcurrent: encoderRequests, Total: c.Inference.Timeout}})
	if err != nil {
		return nil, err
	}
	enc, err := encoder.OpenRemote(ctx, cl, encoder.RemoteSettings{Endpoint: c.Encoder.Endpoint, Model: c.Encoder.Model, Batch: c.Encoder.Batch, Parallel: encoderRequests}, vectors)
	if err != nil {
		cl.Close()
		return nil, fault.WithHint(fmt.Errorf("embeddings endpoint %s: %w", c.Encoder.Endpoint, err), cmp.Or(fault.HintOf(err), "is it running, and does it serve POST /v1/embeddings?"))
	}
	return dialled{enc, cl}, nil
}

// dialled closes the client with the encoder.
type dialled struct {
	*encoder.Remote
	client *vllm.Client
}

// Close closes both.
func (d dialled) Close() error {
	d.client.Close()
	return d.Remote.Close()
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// loadRun opens what a finished run learned: data, explanations of the selected round, network.
func loadRun(ctx context.Context, path string) (*orchestrator.Trained, error) {
	t, closeEncoder, err := loadRunWithEncoder(ctx, path)
	if err == nil {
		closeEncoder()
	}
	return t, err
}

// loadRunWithEncoder is loadRun for who embeds more texts: its encoder stays open until closeEncoder is called.
func loadRunWithEncoder(ctx context.Context, path string) (t *orchestrator.Trained, closeEncoder func(), err error) {
	c, report, err := finishedRun(path)
	if err != nil {
		return nil, nil, err
	}
	w, err := prepare(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if w.Split.Digest != report.SplitDigest {
		return nil, nil, fault.WithHint(fault.Newf(fault.Fatal, "run", "the data of %s has changed since the run", path), fmt.Sprintf("bring back the files of %s, or train anew", c.Data.Path))
	}
	if err := keptProfiles(ctx, path, w); err != nil {
		return nil, nil, err
	}
	t, closeEncoder = &orchestrator.Trained{Work: w, Dir: path, Report: report}, func() {}
	if c.Explanations != "off" {
		enc, err := openEncoder(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		t.Embed, closeEncoder = enc, func() { _ = enc.Close() }
	}
	if err := t.Load(ctx); err != nil {
		closeEncoder()
		return nil, nil, err
	}
	return t, closeEncoder, nil
}

// versionsDir is the folder of versions of the policy: the one that servers share, or that of the run.
func versionsDir(c *config.Config, run string) string {
	if c.Publish.LocalDir != "" {
		return c.Publish.LocalDir
	}
	return filepath.Join(run, "adapters")
}
