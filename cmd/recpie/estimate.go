package main

import (
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/spf13/cobra"

	"recpie/internal/fault"
)

// estimatePrompts is how many prompts, drawn at random, a dry run renders to know their length.
const estimatePrompts = 500

// estimate says what a batch will ask for, and sends nothing.
func (a *app) estimate(cmd *cobra.Command, t *task) error {
	rng := rand.New(rand.NewPCG(uint64(t.c.Seed), 0xd41))
	var letters, prompts, none int
	for range min(estimatePrompts, t.asks.rows()) {
		ask, _ := t.asks.at(rng.IntN(t.asks.rows()))
		p, err := t.w.SideOf(ask.Record).Renderer.Render(ask.Record, ask.Polarity)
		switch {
		case err != nil && fault.ClassOf(err) == fault.Item:
			none++
		case err != nil:
			return err
		default:
			letters += len(p.Text)
			prompts++
		}
	}
	perPrompt := float64(letters) / float64(max(prompts, 1)) / 4 // English runs at about four letters a token
	requests := float64(t.asks.rows()) * float64(prompts) / float64(max(prompts+none, 1))
	sum := map[string]any{
		"rows": t.asks.rows(), "requests": int(requests), "prompt_tokens": int(requests * perPrompt), "answer_tokens_at_most": int(requests) * t.c.Inference.MaxTokens,
		"disk_bytes": t.asks.rows() * 400,
	}
	return a.print(cmd.OutOrStdout(), sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d rows, of which about %.0f have a prompt that fits\n", t.asks.rows(), requests)
		fmt.Fprintf(w, "prompts  about %.2f million tokens (%.0f each, estimated from %d of them)\n", requests*perPrompt/1e6, perPrompt, prompts)
		fmt.Fprintf(w, "answers  at most %.2f million tokens\n", requests*float64(t.c.Inference.MaxTokens)/1e6)
		fmt.Fprintf(w, "disk     about %d MB\n", t.asks.rows()*400/1e6)
		fmt.Fprintln(w, "time     'recpie doctor --probe' tells what the servers answer per second")
	})
}

// estimateRequests is estimate for requests, which are there as they will be sent.
func (a *app) estimateRequests(cmd *cobra.Command, r *requests) error {
	answers := r.answerTokens + r.unbounded*int64(usualAnswer)
	sum := map[string]any{"rows": r.rows(), "requests": r.rows(), "prompt_tokens": r.letters / 4, "answer_tokens": answers, "without_max_tokens": r.unbounded, "disk_bytes": 2*r.letters + 4*answers}
	return a.print(cmd.OutOrStdout(), sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d requests\n", r.rows())
		fmt.Fprintf(w, "prompts  about %.2f million tokens\n", float64(r.letters)/4e6)
		fmt.Fprintf(w, "answers  about %.2f million tokens, if each is as long as its request allows; %d set no max_tokens and are taken to have %d\n", float64(answers)/1e6, r.unbounded, usualAnswer)
		fmt.Fprintln(w, "time     'recpie doctor --probe' tells what the servers answer per second")
	})
}

// usualAnswer is the length of an answer that nothing bounds, in tokens.
const usualAnswer = 256
