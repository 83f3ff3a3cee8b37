package tgi

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/clients/transport"
	"recpie/internal/fault"
)

// Request asks for continuations of a text.
type Request struct {
	Text        string   // sent as it is, see Prompt
	Model       string   // "" or Config.Model: the base model; else one of Config.Adapters
	N           int      // answers; 0 means 1. More than one needs a temperature above 0
	MaxTokens   int      // at least 1
	Temperature float64  // 0: greedy
	TopP        float64  // 0 or 1: not sent, all tokens
	TopK        int      // 0: not sent, all tokens
	Seed        *int64   // nil: random
	Stop        []string // texts that end the answer, whose end they are then
}

// Choice is one answer. TokenIDs and Logprobs run in step.
type Choice struct {
	Text         string // without special tokens
	TokenIDs     []int32
	Logprobs     []float64 // natural log-probabilities under the distribution that was sampled from
	FinishReason string    // stop or length
}

// parameters is the wire form; what is not set is not sent.
type parameters struct {
	AdapterID           *string  `json:"adapter_id,omitempty"`
	DoSample            bool     `json:"do_sample"`
	Temperature         *float64 `json:"temperature,omitempty"`
	TopP                *float64 `json:"top_p,omitempty"`
	TopK                *int     `json:"top_k,omitempty"`
	Seed                *uint64  `json:"seed,omitempty"`
	Stop                []string `json:"stop,omitempty"`
	MaxNewTokens        int      `json:"max_new_tokens"`
	ReturnFullText      bool     `json:"return_full_text"`
	Details             bool     `json:"details"`
	DecoderInputDetails bool     `json:"decoder_input_details"`
}

type generateRequest struct {
	Inputs     string     `json:"inputs"`
	Parameters parameters `json:"parameters"`
}

func (r *Request) check(op string) error {
	switch {
	case r.Text == "":
		return fault.Newf(fault.Item, op, "an empty text cannot be continued")
	case r.N < 0 || r.MaxTokens < 1:
		return fault.Newf(fault.Item, op, "n %d, max_tokens %d", r.N, r.MaxTokens)
	case !(r.Temperature >= 0) || math.IsInf(r.Temperature, 1) || !(r.TopP >= 0 && r.TopP <= 1) || r.TopK < 0:
		return fault.Newf(fault.Item, op, "temperature %v, top_p %v, top_k %d", r.Temperature, r.TopP, r.TopK)
	case r.N > 1 && r.Temperature == 0:
		return fault.Newf(fault.Item, op, "n %d at temperature 0: greedy answers are all the same", r.N)
	}
	return nil
}

// wire makes the request for answer i. TGI samples as soon as any of temperature, top_p and top_k is there, so that greedy leaves all
// three out, and refuses a temperature of 0 and a top_p of 1.
func (c *Client) wire(op string, r *Request, i int) (generateRequest, error) {
	id, err := c.adapterID(op, r.Model)
	if err != nil {
		return generateRequest{}, err
	}
	p := parameters{AdapterID: id, Stop: r.Stop, MaxNewTokens: r.MaxTokens, Details: true}
	if r.Temperature > 0 {
		p.DoSample, p.Temperature = true, &r.Temperature
		if r.TopP > 0 && r.TopP < 1 {
			p.TopP = &r.TopP
		}
		if r.TopK > 0 {
			p.TopK = &r.TopK
		}
		if r.Seed != nil {
			seed := seedOf(*r.Seed, i)
			p.Seed = &seed
		}
	}
	return generateRequest{r.Text, p}, nil
}

// seedOf gives every answer of a request a seed of its own, by the finaliser of SplitMix64: neighbouring seeds share none, negative
// ones are allowed, and the result lies in 1..2^31, which the server's 64 bits hold without a sign.
func seedOf(seed int64, i int) uint64 {
	z := uint64(seed) + (uint64(i)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return (z^z>>31)>>33 + 1
}

// Generate returns N continuations of a text. N above 1 means N requests at a time, each with a seed derived from Seed; one that
// fails ends the others. The server keeps the beginning that they share.
func (c *Client) Generate(ctx context.Context, r Request) ([]Choice, error) {
	const op = "tgi: generate"
	if err := r.check(op); err != nil {
		return nil, err
	}
	out := make([]Choice, max(1, r.N))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.http.MaxConcurrent())
	for i := range out {
		w, err := c.wire(op, &r, i)
		if err != nil {
			return nil, err
		}
		g.Go(func() error {
			var a generateResponse
			return c.http.Post(gctx, op, "/generate", w, &a, func() (err error) {
				out[i], err = a.choice(w.Parameters)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// Delta is a piece of an answer as it arrives: one token.
type Delta struct {
	Text string    // "" for special tokens
	At   time.Time // when the whole piece had arrived
}

// Stream generates one answer and hands its pieces to each while they arrive, which must not take long. The result is the whole
// answer, checked as Generate checks it. It makes one attempt, because what was handed out cannot be taken back. From the request sent
// to the first event Settings.Headers may pass, between two events Settings.Idle.
func (c *Client) Stream(ctx context.Context, r Request, each func(Delta)) (*Choice, error) {
	const op = "tgi: stream"
	if r.N > 1 {
		return nil, fault.Newf(fault.Item, op, "n %d: a stream is one answer", r.N)
	}
	if err := r.check(op); err != nil {
		return nil, err
	}
	w, err := c.wire(op, &r, 0)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	a := assembly{p: w.Parameters}
	err = c.http.Stream(ctx, transport.Call{
		Op: op, Method: http.MethodPost, Path: "/generate_stream", ContentType: "application/json", Body: body,
		Check: func(r *transport.Reply) error { return statusError(op, r) },
	}, func(data []byte, at time.Time) error { return c.event(op, &a, data, at, each) })
	if err != nil {
		return nil, err
	}
	return &a.choice, nil
}
