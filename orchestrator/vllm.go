package orchestrator

import (
	"context"

	"recpie/clients/pool"
	"recpie/clients/vllm"
	"recpie/internal/fault"
)

// VLLM is one inference server that speaks vLLM's API.
type VLLM struct {
	Client *vllm.Client
	Guard  *Guard // puts a version back that the server has forgotten; nil: none
}

// Load is how busy the server says it is, for the pool.
func (s VLLM) Load(ctx context.Context) (pool.Load, error) {
	m, err := s.Client.Metrics(ctx)
	return pool.Load{Waiting: m.Waiting, Running: m.Running, KV: m.KVUsage}, err
}

// Generate implements Generator.
func (s VLLM) Generate(ctx context.Context, r Request) (*Answer, error) {
	var soft vllm.Soft
	if len(r.Soft) > 0 {
		var err error
		if soft, err = vllm.NewSoft(r.Soft, r.SoftRows, len(r.Soft)/r.SoftRows); err != nil {
			return nil, err
		}
	}
	seed := r.Seed
	ask := vllm.ChatRequest{
		Messages: []vllm.Message{vllm.User(soft, r.Text)},
		Params:   vllm.Params{Model: r.Model, N: r.N, MaxTokens: r.MaxTokens, Temperature: r.Temperature, Seed: &seed, Logprobs: r.Temperature > 0},
	}
	res, err := s.Client.Chat(ctx, ask)
	if s.Guard.keeps(r.Model) && vllm.IsUnknownModel(err) {
		if err := s.Guard.restore(ctx); err != nil { // the server is not fit for the work, whatever the row
			return nil, fault.New(fault.Endpoint, "put "+r.Model+" back", err)
		}
		res, err = s.Client.Chat(ctx, ask)
	}
	if err != nil {
		return nil, err
	}
	a := &Answer{Prompt: res.PromptTokenIDs}
	for _, c := range res.Choices {
		lps := make([]float32, len(c.Logprobs))
		for i, x := range c.Logprobs {
			lps[i] = float32(x)
		}
		a.Choices = append(a.Choices, Choice{Text: c.Text, Tokens: c.TokenIDs, Logprobs: lps, Finish: c.FinishReason})
	}
	return a, nil
}

// Score implements Scorer.
func (s VLLM) Score(ctx context.Context, model string, prompt, continuation []int32) ([]float32, error) {
	ids := append(append(make([]int32, 0, len(prompt)+len(continuation)), prompt...), continuation...)
	lps, err := s.Client.Score(ctx, model, ids, len(continuation))
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(lps))
	for i, x := range lps {
		out[i] = float32(x)
	}
	if len(out) != len(continuation) {
		return nil, fault.Newf(fault.Endpoint, "score", "%d log-probabilities for %d tokens", len(out), len(continuation))
	}
	return out, nil
}

// Replica is one inference server as the publisher of adapter versions sees it.
type Replica struct {
	ID     string // its address
	Client *vllm.Client
	Prompt []int32 // canary: these ids are scored under the adapter
}

// Name says which server it is.
func (r Replica) Name() string { return r.ID }

// Load makes the server serve the version at path, as the server sees it.
func (r Replica) Load(ctx context.Context, name, path string) error {
	return r.Client.LoadAdapter(ctx, name, path)
}

// Unload takes a version out of service.
func (r Replica) Unload(ctx context.Context, name string) error {
	return r.Client.UnloadAdapter(ctx, name)
}

// Canary scores the fixed prompt under a version.
func (r Replica) Canary(ctx context.Context, name string) ([]float64, error) {
	return r.Client.Score(ctx, name, r.Prompt, 0)
}
