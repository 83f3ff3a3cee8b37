package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/loadgen"
)

func (a *app) benchCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure what a server can do", Example: "  recpie bench client --url http://gpu1:8000 --model my-model"}
	cmd.AddCommand(a.benchClientCmd())
	return cmd
}

// benchFlags are the flags of bench client.
type benchFlags struct {
	url, model, keyEnv            string
	rate                          float64
	concurrency, requests         int
	duration, warmUp, timeout     time.Duration
	promptTokens, outputTokens    int
	sharedPrefix                  int
	slo                           string
	failIf                        []string
	untilEOS                      bool
	objectives                    loadgen.SLO
	thresholds                    []loadgen.Threshold
	concurrencyGiven, durationSet bool
}

func (a *app) benchClientCmd() *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use: "client", Short: "Put load on an inference server and measure what its users would feel", Args: cobra.NoArgs,
		Long: `Bench client streams chats with synthetic prompts from one server that speaks OpenAI's API (vLLM, the embedded server and
others) and prints the time to the first token (ttft), the time per token after it (tpot), the gap between tokens (itl) and the
whole request (e2e), failures apart.

With --rate requests are due at the random times of a Poisson process and count from the time they were due, however busy the
server is; with --concurrency that many senders each wait for their answer. --slo names what a good request meets, --fail-if
(repeatable) a figure that makes the command fail: mean, p50, p90, p99 or max of ttft, tpot, itl, e2e, failure or send_lag (as
p99_ttft>500ms), error_rate, goodput, prefix_cache_hit, requests_per_second, output_tokens_per_second. A figure that was not
measured fails. An API key is read from the environment variable named by --key-env.`,
		Example: `  recpie bench client --url http://127.0.0.1:8000 --concurrency 32 --duration 30s
  recpie bench client --url http://gpu1:8000 --model llama --rate 5 --duration 60s --warm-up 10s --prompt-tokens 600 --shared-prefix 400 --output-tokens 60
  recpie bench client --url http://gpu1:8000 --rate 20 --slo ttft=500ms,tpot=50ms --fail-if goodput<95% --fail-if error_rate>1% -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			b.concurrencyGiven, b.durationSet = cmd.Flags().Changed("concurrency"), cmd.Flags().Changed("duration")
			if err := b.read(); err != nil {
				return &usageError{err}
			}
			rep, err := b.run(cmd.Context(), uint64(c.Seed))
			if rep != nil {
				if perr := a.print(cmd.OutOrStdout(), rep, func(w io.Writer) { writeLoad(w, rep) }); perr != nil {
					return perr
				}
			}
			if err != nil {
				return err
			}
			return b.judge(rep)
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.url, "url", "", "the server's address, with or without /v1")
	f.StringVar(&b.model, "model", "", "model or adapter to ask (default: the first that the server lists)")
	f.StringVar(&b.keyEnv, "key-env", "", "environment variable that holds the API key")
	f.Float64Var(&b.rate, "rate", 0, "requests per second on average (open loop)")
	f.IntVar(&b.concurrency, "concurrency", 16, "senders; with --rate, requests under way at most (then default 8192)")
	f.DurationVar(&b.duration, "duration", 30*time.Second, "how long to send after the warm-up")
	f.IntVar(&b.requests, "requests", 0, "requests to send after the warm-up; without --duration the only bound")
	f.DurationVar(&b.warmUp, "warm-up", 2*time.Second, "time at the start that is not measured")
	f.DurationVar(&b.timeout, "timeout", 2*time.Minute, "longest that a request may take")
	f.IntVar(&b.promptTokens, "prompt-tokens", 256, "tokens of a prompt, exact as far as the server's /tokenize tells, else words")
	f.IntVar(&b.sharedPrefix, "shared-prefix", 0, "of these, tokens that all prompts begin with")
	f.IntVar(&b.outputTokens, "output-tokens", 64, "tokens of an answer")
	f.BoolVar(&b.untilEOS, "until-eos", false, "answers may end earlier; needed where the server does not know ignore_eos")
	f.StringVar(&b.slo, "slo", "", "objectives, as ttft=500ms,tpot=50ms,e2e=10s")
	f.StringArrayVar(&b.failIf, "fail-if", nil, "threshold, as p99_ttft>500ms (repeatable)")
	return cmd
}

// read checks the flags and parses those with a grammar.
func (b *benchFlags) read() (err error) {
	switch {
	case b.url == "":
		return errors.New("name the server with --url")
	case b.rate < 0 || b.concurrency < 1 || b.requests < 0 || b.duration <= 0 || b.warmUp < 0 || b.timeout <= 0:
		return errors.New("--concurrency, --duration and --timeout must be positive, --rate, --requests and --warm-up not negative")
	case b.promptTokens < 1 || b.outputTokens < 1 || b.sharedPrefix < 0 || b.sharedPrefix > b.promptTokens:
		return fmt.Errorf("%d prompt tokens, %d of them shared, and %d output tokens do not fit together", b.promptTokens, b.sharedPrefix, b.outputTokens)
	}
	if b.slo != "" {
		if b.objectives, err = loadgen.ParseSLO(b.slo); err != nil {
			return err
		}
	}
	for _, text := range b.failIf {
		t, err := loadgen.ParseThreshold(text)
		if err != nil {
			return err
		}
		b.thresholds = append(b.thresholds, t)
	}
	return nil
}

func (b *benchFlags) run(ctx context.Context, seed uint64) (*loadgen.Report, error) {
	key, err := transport.SecretFromEnv(b.keyEnv)
	if err != nil {
		return nil, &usageError{err}
	}
	o := loadgen.Options{Rate: b.rate, Concurrency: b.concurrency, Duration: b.duration, Requests: b.requests, WarmUp: b.warmUp, Seed: seed, SLO: b.objectives}
	if b.requests > 0 && !b.durationSet {
		o.Duration = 0
	}
	connections := b.concurrency
	if b.rate > 0 && !b.concurrencyGiven {
		o.Concurrency, connections = 0, 8192
	}
	cl, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: b.url, Key: key, Attempts: 1, MaxConcurrent: connections, Total: b.timeout, Headers: b.timeout}})
	if err != nil {
		return nil, &usageError{err}
	}
	defer cl.Close()
	target := &chatTarget{client: cl, model: b.model, ignoreEOS: !b.untilEOS}
	if target.model == "" {
		models, err := cl.Models(ctx)
		if err != nil {
			return nil, fault.WithHint(err, "start the server, mend --url, or name the --model")
		}
		if len(models) == 0 {
			return nil, &usageError{errors.New("the server lists no model: name one with --model")}
		}
		target.model = models[0].ID
	}
	o.Request = b.prompts(ctx, cl, seed).Request
	o.Cache = func(ctx context.Context) (loadgen.Cache, error) {
		m, err := cl.Metrics(ctx)
		if err == nil && !m.HasPrefixCache {
			err = errors.New("the server counts no prefix cache")
		}
		return loadgen.Cache{Queries: m.PrefixQueries, Hits: m.PrefixHits}, err
	}
	return loadgen.Run(ctx, target, o)
}

// prompts chooses how many words make the tokens wanted, by asking the server to tokenize a prompt. Where it cannot, a word counts as
// a token, and the report says how many there were.
func (b *benchFlags) prompts(ctx context.Context, cl *vllm.Client, seed uint64) loadgen.Prompts {
	p := loadgen.Prompts{Words: b.promptTokens, Shared: b.sharedPrefix, MaxTokens: b.outputTokens, Seed: seed}
	for range 3 {
		ids, err := cl.TokenizeChat(ctx, []vllm.Message{vllm.User(vllm.Soft{}, p.Request(0).Prompt)})
		if err != nil || len(ids) == 0 || len(ids) == b.promptTokens {
			break
		}
		p.Words = max(1, p.Words*b.promptTokens/len(ids))
		p.Shared = b.sharedPrefix * p.Words / b.promptTokens
	}
	return p
}

// judge makes an error of broken thresholds, and of a run in which nothing succeeded.
func (b *benchFlags) judge(rep *loadgen.Report) error {
	var broken []string
	for _, t := range b.thresholds {
		if how, bad := t.Broken(rep); bad {
			broken = append(broken, how)
		}
	}
	if len(broken) > 0 {
		return errors.New("thresholds are broken: " + strings.Join(broken, "; "))
	}
	if rep.Succeeded == 0 {
		for _, first := range rep.FirstOf {
			return fmt.Errorf("no request succeeded; one failed with %s", first)
		}
		return errors.New("no request was sent after the warm-up")
	}
	return nil
}

// chatTarget streams chats from a server for the load generator.
type chatTarget struct {
	client    *vllm.Client
	model     string
	ignoreEOS bool
}

// Send streams one chat.
func (t *chatTarget) Send(ctx context.Context, r loadgen.Request, token func(at time.Time, tokens int)) (loadgen.Answer, error) {
	res, err := t.client.ChatStream(ctx, vllm.ChatRequest{
		Messages: []vllm.Message{vllm.User(vllm.Soft{}, r.Prompt)},
		Params:   vllm.Params{Model: t.model, MaxTokens: r.MaxTokens, IgnoreEOS: t.ignoreEOS, TextOnly: true},
	}, func(d vllm.Delta) { token(d.At, d.Tokens) })
	if err != nil {
		return loadgen.Answer{}, err
	}
	return loadgen.Answer{PromptTokens: res.PromptTokens, OutputTokens: res.CompletionTokens}, nil
}

// writeLoad writes a report for people.
func writeLoad(w io.Writer, r *loadgen.Report) {
	if r.Mode == "open" {
		fmt.Fprintf(w, "open loop, %g requests/s due, up to %d under way, %.1f s\n", r.Rate, r.Concurrency, r.Seconds)
	} else {
		fmt.Fprintf(w, "closed loop, %d senders, %.1f s\n", r.Concurrency, r.Seconds)
	}
	fmt.Fprintf(w, "requests    %d sent, %d succeeded, %d failed", r.Sent, r.Succeeded, r.Failed)
	if r.Abandoned > 0 {
		fmt.Fprintf(w, ", %d abandoned", r.Abandoned)
	}
	fmt.Fprintf(w, "\nthroughput  %.2f requests/s, %.1f output tokens/s\n", r.RequestsPerSecond, r.OutputTokensPerSecond)
	if r.Succeeded > 0 {
		fmt.Fprintf(w, "tokens      %.1f per prompt, %.1f per answer\n", float64(r.PromptTokens)/float64(r.Succeeded), float64(r.OutputTokens)/float64(r.Succeeded))
	}
	if r.PrefixCacheHit != nil {
		fmt.Fprintf(w, "prefix hit  %.1f%% of prompt tokens\n", 100**r.PrefixCacheHit)
	}
	if g := r.Goodput; g != nil {
		fmt.Fprintf(w, "goodput     %.1f%%, %.2f requests/s\n", 100*g.Share, g.PerSecond)
	}
	fmt.Fprintf(w, "%-9s %10s %10s %10s %10s %10s %9s\n", "ms", "mean", "p50", "p90", "p99", "max", "samples")
	for _, l := range []struct {
		name string
		loadgen.Latency
	}{{"ttft", r.TTFT}, {"tpot", r.TPOT}, {"itl", r.ITL}, {"e2e", r.E2E}, {"failure", r.Failure}, {"send lag", r.SendLag}} {
		if l.Samples > 0 {
			fmt.Fprintf(w, "%-9s %10.2f %10.2f %10.2f %10.2f %10.2f %9d\n", l.name, l.Mean, l.P50, l.P90, l.P99, l.Max, l.Samples)
		}
	}
	for _, class := range []string{"transient", "endpoint", "item", "fatal"} {
		if n := r.Classes[class]; n > 0 {
			fmt.Fprintf(w, "%d failures of class %s, as: %s\n", n, class, r.FirstOf[class])
		}
	}
}
