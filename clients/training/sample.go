package training

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// Sampling shapes what is sampled. Temperature 0 is greedy; Seed nil is any.
type Sampling struct {
	Samples, MaxTokens int
	Temperature        float64
	Seed               *int64
	Stop               []int32 // token ids; nil: the model's end of text
	PromptLogprobs     bool
}

// Sampled is the outcome: the sequences, and log-probabilities of the prompt's tokens [len(prompt)], the first of them NaN, when asked for.
type Sampled struct {
	Sequences      []Sequence
	PromptLogprobs []float32
}

// Sequence is one sampled text with the log-probability of each token. Cut says that it ended at MaxTokens.
type Sequence struct {
	Tokens   []int32
	Logprobs []float32
	Cut      bool
}

// Sampler samples from a snapshot, or from a base model.
type Sampler struct {
	s     *Session
	id    string
	path  string
	model *Model // in training on a server where sampling can touch its weights, else nil

	mu  sync.Mutex
	seq int64
}

type samplerRequest struct {
	SessionID string `json:"session_id"`
	Seq       int    `json:"sampling_session_seq_id"`
	ModelPath string `json:"model_path,omitempty"`
	BaseModel string `json:"base_model,omitempty"`
	Type      string `json:"type"`
}

type sampleRequest struct {
	SamplerID  string         `json:"sampling_session_id"`
	Seq        int64          `json:"seq_id"`
	NumSamples int            `json:"num_samples"`
	Prompt     prompt         `json:"prompt"`
	Params     samplingParams `json:"sampling_params"`
	Logprobs   bool           `json:"prompt_logprobs"`
	Type       string         `json:"type"`
}

type prompt struct {
	Chunks []textChunk `json:"chunks"`
}

type textChunk struct {
	Tokens []int32 `json:"tokens"`
	Type   string  `json:"type"`
}

type samplingParams struct {
	MaxTokens   int     `json:"max_tokens"`
	Seed        *int64  `json:"seed,omitempty"`
	Temperature float64 `json:"temperature"`
	TopK        int     `json:"top_k"`
	TopP        float64 `json:"top_p"`
	Stop        []int32 `json:"stop,omitempty"`
}

// Sampler opens a sampler of a snapshot that SaveWeightsForSampler made.
func (s *Session) Sampler(ctx context.Context, path string) (*Sampler, error) {
	const op = "training: sampler"
	at, err := tinker.ParsePath(path)
	if err != nil || at.Kind == tinker.KindWeights {
		return nil, fault.Newf(fault.Item, op, "%q is no sampler's snapshot", path)
	}
	sm, err := s.sampler(ctx, samplerRequest{ModelPath: path})
	if err == nil && s.Traits().SharedSlot {
		if sm.model, err = s.owner(op, at.Model); err != nil {
			return nil, err
		}
	}
	return sm, err
}

// BaseSampler opens a sampler of a base model.
func (s *Session) BaseSampler(ctx context.Context, base string) (*Sampler, error) {
	return s.sampler(ctx, samplerRequest{BaseModel: base})
}

func (s *Session) sampler(ctx context.Context, req samplerRequest) (*Sampler, error) {
	const op = "training: sampler"
	s.mu.Lock()
	req.Seq = s.samplers
	s.samplers++
	s.mu.Unlock()
	req.SessionID, req.Type = s.id, "create_sampling_session"
	var r struct {
		ID string `json:"sampling_session_id"`
	}
	if err := s.post(ctx, op, tinker.PathSamplingSession, req, &r); err != nil {
		return nil, err
	}
	if r.ID == "" {
		return nil, fault.Newf(fault.Endpoint, op, "the answer has no session id")
	}
	return &Sampler{s: s, id: r.ID, path: req.ModelPath}, nil
}

// owner returns the model of this session with the id.
func (s *Session) owner(op, id string) (*Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.live {
		if m.id == id {
			return m, nil
		}
	}
	return nil, fault.Newf(fault.Item, op, "model %s is not in training in this session, and this server samples through it", id)
}

// Sample samples and waits for the result. Where the server samples through the weights in training (SkyRL's JAX backend: an older
// snapshot would replace them, and trained steps be lost), a snapshot that is older than the last step is refused with an item error, and
// steps wait until the sample is there.
func (p *Sampler) Sample(ctx context.Context, tokens []int32, set Sampling) (*Sampled, error) {
	const op = "training: sample"
	if len(tokens) == 0 || set.Samples < 1 || set.MaxTokens < 1 {
		return nil, fault.Newf(fault.Item, op, "%d samples of %d tokens after %d", set.Samples, set.MaxTokens, len(tokens))
	}
	if p.model != nil {
		p.model.sampling.RLock()
		defer p.model.sampling.RUnlock()
		if err := p.model.fresh(op, p.path); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	seq := p.seq
	p.seq++
	p.mu.Unlock()
	req := sampleRequest{SamplerID: p.id, Seq: seq, NumSamples: set.Samples, Prompt: prompt{[]textChunk{{tokens, "encoded_text"}}},
		Params: samplingParams{set.MaxTokens, set.Seed, set.Temperature, -1, 1, set.Stop}, Logprobs: set.PromptLogprobs, Type: "sample"}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	var f tinker.Future
	if err := p.s.send(ctx, op, tinker.PathSample, "application/json", body, &f); err != nil {
		return nil, err
	}
	result := &Pending[*Sampled]{s: p.s, op: op, id: f.RequestID, proto: true, decode: func(b []byte) (*Sampled, error) { return decodeSample(b, len(tokens), set) }}
	return result.Wait(ctx)
}

// fresh refuses a snapshot that is not the state of the weights now.
func (m *Model) fresh(op, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, saved := m.saved[path]; !saved || at != m.steps {
		return fault.WithHint(fault.Newf(fault.Item, op, "%s is not the state of model %s after its step %d: sampling from it would replace the weights in training on this server", path, m.id, m.steps),
			"save weights for the sampler again and sample from that snapshot")
	}
	return nil
}

// decodeSample reads a result and refuses one that does not match the request. Prompt log-probabilities without the undefined first
// one, as some servers send them, get it.
func decodeSample(b []byte, prompt int, set Sampling) (*Sampled, error) {
	var out pb.SampleResponse
	if err := proto.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("the result is not the protobuf expected: %w", err)
	}
	if len(out.GetSequences()) != set.Samples {
		return nil, fmt.Errorf("%d of %d sequences", len(out.GetSequences()), set.Samples)
	}
	r := &Sampled{}
	for i, q := range out.GetSequences() {
		ids, err := tinker.Int32s(q.GetTokens())
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", i, err)
		}
		lp, err := tinker.Float32s(q.GetLogprobs())
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", i, err)
		}
		if len(ids) == 0 || len(ids) > set.MaxTokens || len(lp) != len(ids) || notFinite(lp) >= 0 {
			return nil, fmt.Errorf("sequence %d: %d tokens with log-probabilities %v", i, len(ids), lp)
		}
		r.Sequences = append(r.Sequences, Sequence{ids, lp, q.GetStopReason() == pb.SampledSequence_LENGTH})
	}
	if !set.PromptLogprobs {
		return r, nil
	}
	lp, err := tinker.Float32s(out.GetPromptLogprobs())
	if err != nil {
		return nil, fmt.Errorf("prompt log-probabilities: %w", err)
	}
	nan := float32(math.NaN())
	if len(lp) == prompt-1 {
		lp = slices.Concat([]float32{nan}, lp)
	}
	if len(lp) != prompt || notFinite(lp[1:]) >= 0 {
		return nil, fmt.Errorf("%d log-probabilities for a prompt of %d tokens", len(lp), prompt)
	}
	lp[0] = nan
	r.PromptLogprobs = lp
	return r, nil
}
