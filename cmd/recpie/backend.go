package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"recpie/adapters"
	"recpie/clients/pool"
	"recpie/clients/tgi"
	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/config"
	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/progress"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
	"recpie/orchestrator"
	"recpie/policy"
)

// backend is everything a run talks to over HTTP. The embedded server, when it is used, is reached by the same clients as any other.
type backend struct {
	fleet     orchestrator.Fleet
	admin     []*vllm.Client // one for each server that adapters can be published to
	asks      []*vllm.Client // the same servers, asked once
	steps     *backend       // the training server as an inference server, where it samples the policy's steps (policy.path: merged); else nil
	urls      []string       // theirs
	guards    []*orchestrator.Guard
	fixed     []orchestrator.TGI // servers whose adapters are those they were started with
	fixedURLs []string
	session   *training.Session // nil: no adapter training
	base      string            // served name of the base model
	baseID    string            // what tells base models apart
	trainName string            // base model at the training server
	maxLen    int
	lm        config.LM
	merged    bool // servers may serve a merged version in place of the base model
	stop      []func()
}

func (b *backend) close() {
	for i := len(b.stop) - 1; i >= 0; i-- {
		b.stop[i]()
	}
}

// embeddedTimeout is the least wait for an answer of the embedded server: it queues what this machine cannot yet do, and a busy machine
// is no broken server.
const embeddedTimeout = 15 * time.Minute

// connect starts the embedded server if the settings name no other, and dials what the run needs. state is the folder of the
// embedded training server, root the folder adapters are published to.
func connect(ctx context.Context, c *config.Config, w *orchestrator.Workspace, state, root string, show *progress.Reporter) (b *backend, err error) {
	b = &backend{base: c.Inference.Model, baseID: c.Inference.Model, trainName: c.Training.Model, lm: c.LM}
	started := b // b itself is nil on the way out with an error
	defer func() {
		if err != nil {
			started.close()
		}
	}()
	endpoints, timeout := c.Inference.Endpoints, c.Inference.Timeout
	trainURL, trainKey := c.Training.URL, c.Training.KeyEnv
	if len(endpoints) == 0 {
		if c.Preset != "embedded" && c.LM.Dir == "" {
			return nil, &usageError{fault.WithHint(fault.Newf(fault.Fatal, "inference", "preset %s has no server", c.Preset), "name inference.endpoints in a file and give it with -c, or a folder with the model in lm.dir")}
		}
		dir, err := languageModel(ctx, c, w, show)
		if err != nil {
			return nil, err
		}
		url, err := b.embedded(dir, state, root, threads(c))
		if err != nil {
			return nil, err
		}
		b.baseID = filepath.Base(dir)
		timeout = max(timeout, embeddedTimeout)
		endpoints = []config.Endpoint{{URL: url}}
		if trainURL == "" {
			trainURL, trainKey = url, ""
		}
	} else if w != nil { // nil: there are no prompts of ours
		if err := w.Limit(c.Prompts.TokenBudget, characters{}); err != nil {
			return nil, err
		}
	}
	b.merged = c.Policy.Path == string(policy.PathMerged)
	if err := b.dial(ctx, c, endpoints, timeout); err != nil {
		return nil, err
	}
	if c.Training.Frozen || trainURL == "" {
		return b, nil
	}
	key, err := transport.SecretFromEnv(trainKey)
	if err != nil {
		return nil, &usageError{err}
	}
	b.session, err = training.Dial(ctx, training.Config{Settings: transport.Settings{BaseURL: trainURL, Key: key}, Metadata: map[string]string{"run": filepath.Base(c.Run)}})
	if err != nil {
		return nil, fault.WithHint(fmt.Errorf("training server %s: %w", trainURL, err), "set training.frozen: true to leave the language model as it is")
	}
	b.stop = append(b.stop, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = b.session.Close(stop)
	})
	if b.trainName == "" {
		b.trainName = b.base
	}
	return b, nil
}

// dial connects to the inference servers and makes the pool of them. Requests of the pool are tried once: trying again, elsewhere or
// later, is the pool's business.
func (b *backend) dial(ctx context.Context, c *config.Config, endpoints []config.Endpoint, timeout time.Duration) error {
	var all []pool.Endpoint[orchestrator.Server]
	for _, e := range endpoints {
		key, err := transport.SecretFromEnv(e.KeyEnv)
		if err != nil {
			return &usageError{err}
		}
		once := transport.Settings{BaseURL: e.URL, Key: key, MaxConcurrent: c.Inference.Concurrency, Total: timeout, Attempts: 1}
		ep := pool.Endpoint[orchestrator.Server]{Name: e.URL}
		if e.Kind == "tgi" {
			err = b.dialTGI(ctx, c, e, once, &ep)
		} else {
			err = b.dialVLLM(ctx, c, e, once, &ep)
		}
		if err != nil {
			return fault.WithHint(fmt.Errorf("inference server %s: %w", e.URL, err), "is it running? 'recpie doctor' tells what it can do")
		}
		all = append(all, ep)
	}
	p, err := pool.New(pool.Settings{MaxInFlight: c.Inference.Concurrency, Fixed: len(c.Inference.Endpoints) == 0, Attempt: timeout, RequestRate: c.Inference.RequestRate, TokenRate: c.Inference.TokenRate}, all)
	if err != nil {
		return err
	}
	b.fleet.Pool = p
	b.stop = append(b.stop, p.Close)
	return nil
}

func (b *backend) dialVLLM(ctx context.Context, c *config.Config, e config.Endpoint, once transport.Settings, ep *pool.Endpoint[orchestrator.Server]) error {
	cl, err := vllm.New(vllm.Config{Settings: once, Model: b.base, CacheSize: c.Inference.CacheSize})
	if err != nil {
		return err
	}
	b.stop = append(b.stop, cl.Close)
	often := once
	often.Attempts = 0 // the transport's own
	admin, err := vllm.New(vllm.Config{Settings: often, Model: b.base})
	if err != nil {
		return err
	}
	b.stop = append(b.stop, admin.Close)
	models, err := admin.Models(ctx)
	if err != nil {
		return err
	}
	if err := b.serves(models, e.URL); err != nil {
		return err
	}
	guard := &orchestrator.Guard{}
	b.asks = append(b.asks, cl)
	b.admin, b.urls, b.guards = append(b.admin, admin), append(b.urls, e.URL), append(b.guards, guard)
	server := orchestrator.VLLM{Client: cl, Guard: guard}
	ep.Client, ep.Probe, ep.Load = server, cl.Health, server.Load
	held := &adapters.Held{Canary: func(ctx context.Context) ([]float64, error) {
		r, err := replica(ctx, e.URL, cl)
		if err != nil {
			return nil, err
		}
		return r.Canary(ctx, b.base)
	}}
	if len(c.Inference.Endpoints) > 0 && !b.merged { // the embedded server lives and dies with us
		ep.Same = held.Same
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		var noting sync.WaitGroup
		noting.Go(func() { held.Note(ctx) }) // a busy server takes its time
		b.stop = append(b.stop, func() { cancel(); noting.Wait() })
	}
	return nil
}

func (b *backend) dialTGI(ctx context.Context, c *config.Config, e config.Endpoint, once transport.Settings, ep *pool.Endpoint[orchestrator.Server]) error {
	cl, err := tgi.New(tgi.Config{Settings: once, Model: b.base, Adapters: e.Adapters, Chat: e.Chat})
	if err != nil {
		return err
	}
	b.stop = append(b.stop, cl.Close)
	info, err := cl.Info(ctx)
	if err != nil {
		return err
	}
	if info.MaxTotal > 0 && (b.maxLen == 0 || info.MaxTotal < b.maxLen) {
		b.maxLen = info.MaxTotal
	}
	server := orchestrator.TGI{Client: cl}
	if e.Tokenizer != "" {
		if server.Tokenizer, err = tokenizer.Load(e.Tokenizer); err != nil {
			return err
		}
	}
	b.fleet.Words = b.fleet.Words || c.Inference.SoftPrompts
	b.fixed, b.fixedURLs = append(b.fixed, server), append(b.fixedURLs, e.URL)
	ep.Client, ep.Probe = server, cl.Health
	ep.Load = func(ctx context.Context) (pool.Load, error) {
		l, err := cl.Load(ctx)
		return pool.Load{Waiting: l.Waiting, Running: l.Running}, err
	}
	return nil
}

// serves checks that the base model is there and takes note of how much text it takes.
func (b *backend) serves(models []vllm.Model, url string) error {
	var names []string
	for _, m := range models {
		if m.ID == b.base || b.merged && adapters.IsName(m.ID) {
			if m.MaxLen > 0 && (b.maxLen == 0 || m.MaxLen < b.maxLen) {
				b.maxLen = m.MaxLen
			}
			return nil
		}
		names = append(names, m.ID)
	}
	return fault.WithHint(fault.Newf(fault.Fatal, "inference", "%s does not serve %s", url, b.base), fmt.Sprintf("set inference.model to one of %q", names))
}

// embedded serves the model of a folder on a free loopback port.
func (b *backend) embedded(dir, state, root string, workers int) (string, error) {
	bundle, err := lm.Load(dir, lm.LoadOptions{Device: lm.Device(b.lm.Device), BFloat16: b.lm.DType == "bfloat16"})
	if err != nil {
		return "", err
	}
	bundle.Name = b.base
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fault.New(fault.Fatal, "adapters", err)
	}
	srv, err := lmserver.New(lmserver.Options{Model: bundle, AdapterRoot: root, StateDir: state, Checkpointing: b.lm.Checkpoint, Engine: lm.EngineOptions{Workers: workers, KVBytes: b.lm.KVMemory << 20}})
	if err != nil {
		bundle.Model.Close()
		return "", err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(context.Background()) // ended by Shutdown below
	}()
	b.stop = append(b.stop, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		<-done
		bundle.Model.Close()
	})
	return srv.URL(), nil
}

// languageModel returns the folder of the model to serve: the user's, or one warmed up on the training records.
func languageModel(ctx context.Context, c *config.Config, w *orchestrator.Workspace, show *progress.Reporter) (string, error) {
	if c.LM.Dir != "" {
		return c.LM.Dir, w.LimitBy(c.LM.Dir, c.Prompts.TokenBudget)
	}
	settings, err := warmupSettings(c)
	if err != nil {
		return "", err
	}
	var task *progress.Task
	last := 0.0
	torch.SetThreads(threads(c)) // one model is trained: its operations are divided; later, batches are
	defer torch.SetThreads(1)
	dir, err := w.Warmup(ctx, settings, func(step, total int, loss float64) {
		if task == nil {
			task = show.Start("warm-up of the language model", int64(total), 0)
		}
		task.Add(1)
		last = loss
	})
	if err == nil && task != nil {
		task.Done(fmt.Sprintf("loss %.3f nats per token", last))
	}
	return dir, err
}

func warmupSettings(c *config.Config) (orchestrator.WarmupSettings, error) {
	cache, err := cacheDir()
	family := c.LM.Family
	if family == lm.TypeGPT2 {
		family = "" // the default
	}
	return orchestrator.WarmupSettings{
		Family: family,
		Layers: c.LM.Layers, Hidden: c.LM.Hidden, Heads: c.LM.Heads, Vocabulary: c.LM.Vocabulary, Context: c.LM.Context, Steps: c.LM.WarmupSteps,
		Batch: c.LM.WarmupBatch, Rate: c.LM.WarmupRate, Samples: c.LM.WarmupSamples, TokenBudget: c.Prompts.TokenBudget, Seed: c.Seed, CacheDir: filepath.Join(cache, "lm"),
	}, err
}

// characters estimates tokens for models whose tokenizer is not here: English runs at about four characters a token, names at three.
type characters struct{}

func (characters) Count(text string) int { return (len(text) + 2) / 3 }

// publisher puts adapter versions into service on all servers.
func (b *backend) publisher(ctx context.Context, c *config.Config, root string) (*adapters.Publisher, error) {
	server := c.Publish.ServerDir
	if server == "" {
		server = root
	}
	var replicas []adapters.Replica
	for i := range b.admin {
		r, err := b.replica(ctx, i)
		if err != nil {
			return nil, err
		}
		replicas = append(replicas, r)
	}
	return adapters.NewPublisher(adapters.PublishSettings{ServerDir: server}, replicas)
}

// canaryText is scored under every version of the policy to see that servers serve it, and under the base model to see that they still do.
const canaryText = "Provide a reason for why this user watched this movie."

// replica is the i-th of the servers that adapters can be published to.
func (b *backend) replica(ctx context.Context, i int) (orchestrator.Replica, error) {
	return replica(ctx, b.urls[i], b.admin[i])
}

func replica(ctx context.Context, url string, cl *vllm.Client) (orchestrator.Replica, error) {
	canary, err := cl.TokenizeChat(ctx, []vllm.Message{{Role: "user", Parts: []vllm.Part{{Text: canaryText}}}})
	return orchestrator.Replica{ID: url, Client: cl, Prompt: canary}, err
}
