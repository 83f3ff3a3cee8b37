package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/internal/wire/tinker"
)

// Training is an adapter-training server and what a run would ask of it.
type Training struct {
	URL, KeyEnv  string // KeyEnv names the environment variable of the key; "": none
	Model        string // base model, as the training server names it
	Rank         int    // LoRA rank
	SoftPrompts  bool   // soft prompts are to be trained
	Probe        bool   // make an adapter for a moment and run a pass of each loss
	RoundTripper http.RoundTripper
}

// Examine opens a session and closes it again.
func (t Training) Examine(ctx context.Context) []Finding {
	c := &chart{server: t.URL}
	key, ok := c.key(t.KeyEnv)
	if !ok {
		return c.all
	}
	s := transport.Settings{BaseURL: t.URL, Key: key, KeyHeader: tinker.HeaderAPIKey, RoundTripper: t.RoundTripper}
	l, err := dial(s)
	if err != nil {
		c.failed(Miss, "reachable", "mend training.url", err)
		return c.all
	}
	defer l.close()
	if !c.reachable(ctx, l, tinker.PathHealth, "start the server, mend training.url, or set training.frozen: true") ||
		!c.guarded(ctx, l, tinker.PathCapabilities, key, t.KeyEnv, "training", "an API key") {
		return c.all
	}
	s.Attempts, s.BackoffMax = 2, 2*time.Second
	session, err := training.Dial(ctx, training.Config{Settings: s})
	if err != nil {
		c.failed(Miss, "dialect", "serve the Tinker API as its SDK 0.25 to 0.38 speaks it, or set training.frozen: true", err)
		return c.all
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = session.Close(end)
	}()
	c.ok("dialect", "the handshake of the Tinker SDK 0.25 to 0.38 was accepted")
	trainable := c.baseModel(t, session.Capabilities())
	switch {
	case session.PromptEmbeds():
		c.ok(tinker.ExtensionPromptEmbed, "gradients of soft prompts")
	case t.SoftPrompts:
		c.warn(tinker.ExtensionPromptEmbed, "nothing to do if that is wanted: soft prompts are sent but stay as they are; the embedded server trains them", "the server returns no gradients of soft prompts")
		c.tells(pathSoft, "the training server returns no gradients of soft rows")
	default:
		c.ok(tinker.ExtensionPromptEmbed, "not offered; inference.soft_prompts is off")
	}
	switch {
	case !t.Probe:
		c.ok("losses", "not asked: the API has no list of them; --probe runs a pass of each")
	case trainable:
		c.losses(ctx, t, session)
	}
	return c.all
}

// baseModel finds the base model among what the server offers. It tells whether an adapter can be made.
func (c *chart) baseModel(t Training, caps tinker.Capabilities) bool {
	const what = "base model"
	var names []string
	stated := false // some servers leave the flag out
	for _, m := range caps.SupportedModels {
		stated = stated || m.Trainable
	}
	for _, m := range caps.SupportedModels {
		names = append(names, m.ModelName)
		if m.ModelName != t.Model {
			continue
		}
		if stated && !m.Trainable {
			c.miss(what, "set training.model to one that can be trained", "%s can only be sampled", m.ModelName)
			return false
		}
		if m.MaxContextLength > 0 {
			c.ok(what, "%s, %d tokens", m.ModelName, m.MaxContextLength)
		} else {
			c.ok(what, "%s", m.ModelName)
		}
		return true
	}
	c.miss(what, "set training.model", "%q is not among the %d offered: %s", t.Model, len(caps.SupportedModels), listed(names))
	return false
}

// probeTime bounds the making of an adapter and the passes: a server may have to load the base model first.
const probeTime = 5 * time.Minute

// losses makes an adapter, runs a forward pass of each loss, which leaves no gradient, and unloads the adapter.
func (c *chart) losses(ctx context.Context, t Training, s *training.Session) {
	const what = "losses"
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	m, err := s.CreateModel(ctx, t.Model, tinker.LoRAConfig{Rank: t.Rank, TrainAttn: true})
	if err != nil {
		c.failed(Miss, what, "lower training.rank, or look at the server's log", fmt.Errorf("no adapter of rank %d: %w", t.Rank, err))
		return
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = m.Unload(end) // ending the session frees it as well
	}()
	var offered []string
	var refusal error
	began := time.Now()
	for _, loss := range []string{tinker.LossPPO, tinker.LossImportanceSampling, tinker.LossCrossEntropy} {
		d := training.Datum{Tokens: []int32{1, 2, 3}, Targets: []int64{2, 3, 4}}
		if loss == tinker.LossCrossEntropy {
			d.Weights = []float32{1, 1, 1}
		} else {
			d.Logprobs, d.Advantages = []float32{-1, -1, -1}, []float32{1, 1, 1}
		}
		p, err := m.Forward(ctx, []training.Datum{d}, loss, nil)
		if err == nil {
			_, err = p.Wait(ctx)
		}
		switch {
		case err == nil:
			offered = append(offered, loss)
		case refusal == nil:
			refusal = err
		}
	}
	if len(offered) == 0 {
		c.failed(Miss, what, "train on a server that offers one of ppo, importance_sampling and cross_entropy, or set training.frozen: true", refusal)
		return
	}
	carried := ""
	if offered[0] != tinker.LossPPO {
		carried = "; ppo is carried by " + offered[0] + " after a forward pass"
	}
	c.ok(what, "%s, with an adapter of rank %d, in %s%s", strings.Join(offered, ", "), t.Rank, short(time.Since(began)), carried)
	c.resent(ctx, m, s)
}

// resent finds out what happens to a training request that is sent again after a lost answer.
func (c *chart) resent(ctx context.Context, m *training.Model, s *training.Session) {
	const what = "lost answers"
	if err := m.Probe(ctx); err != nil {
		c.failed(Warn, what, "look at the server's log", err)
		return
	}
	if s.Traits().DeduplicatesSeqID == training.Yes {
		c.ok(what, "a request that is sent again runs once")
	} else {
		c.warn(what, "nothing to do: after a lost answer a run goes back to its last checkpoint", "a request that is sent again runs twice")
	}
}
