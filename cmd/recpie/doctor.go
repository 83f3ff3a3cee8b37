package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/config"
	"recpie/internal/fault"
)

// finding is one thing that doctor looked at.
type finding struct {
	Server string `json:"server"`
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Ask the configured servers what they can do", Args: cobra.NoArgs,
		Long:    "Doctor checks reachability, the served models, soft prompts (prompt_embeds), run-time adapters, prompt scoring and the training extensions.",
		Example: "  recpie doctor -c recpie.yaml\n  recpie doctor -c recpie.yaml -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			if len(c.Inference.Endpoints) == 0 && c.Training.URL == "" {
				return fault.WithHint(fault.Newf(fault.Fatal, "doctor", "no servers are configured: a run would use the embedded one"), "name inference.endpoints in a file and give it with -c")
			}
			var all []finding
			for _, e := range c.Inference.Endpoints {
				all = append(all, examineInference(ctx, c, e)...)
			}
			if c.Training.URL != "" {
				all = append(all, examineTraining(ctx, c)...)
			}
			bad := 0
			for _, f := range all {
				if !f.OK {
					bad++
				}
			}
			if err := a.print(cmd.OutOrStdout(), all, func(w io.Writer) {
				for _, f := range all {
					mark := "ok  "
					if !f.OK {
						mark = "MISS"
					}
					fmt.Fprintf(w, "%s  %-28s %-20s %s\n", mark, f.Server, f.What, f.Detail)
					if f.Remedy != "" {
						fmt.Fprintf(w, "      %s\n", f.Remedy)
					}
				}
			}); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks failed", bad, len(all))
			}
			return nil
		},
	}
}

func examineInference(ctx context.Context, c *config.Config, e config.Endpoint) []finding {
	var out []finding
	note := func(what string, err error, detail, remedy string) bool {
		f := finding{Server: e.URL, What: what, OK: err == nil, Detail: detail}
		if err != nil {
			f.Detail, f.Remedy = err.Error(), remedy
		}
		out = append(out, f)
		return err == nil
	}
	key, err := transport.SecretFromEnv(e.KeyEnv)
	if !note("key", err, "", "export "+e.KeyEnv) {
		return out
	}
	cl, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: e.URL, Key: key, Attempts: 2}, Model: c.Inference.Model})
	if err == nil {
		defer cl.Close()
		err = cl.Health(ctx)
	}
	if !note("reachable", err, "", "start the server, or mend inference.endpoints") {
		return out
	}
	models, err := cl.Models(ctx)
	found := ""
	for _, m := range models {
		if m.ID == c.Inference.Model {
			found = fmt.Sprintf("%s, %d tokens", m.ID, m.MaxLen)
		}
	}
	if err == nil && found == "" {
		err = fmt.Errorf("%s is not among the %d served models", c.Inference.Model, len(models))
	}
	if !note("model", err, found, "set inference.model") {
		return out
	}
	ids, err := cl.TokenizeChat(ctx, []vllm.Message{vllm.User(vllm.Soft{}, "hello")})
	note("chat template", err, fmt.Sprintf("%d tokens for one word", len(ids)), "serve a chat model, or give the server --chat-template")
	if err == nil {
		_, err = cl.Score(ctx, c.Inference.Model, ids, 0)
		note("prompt scoring", err, "echo with max_tokens 0", "the policy needs it for the reference log-probabilities")
	}
	hidden, err := probeHidden(ctx, cl)
	note("soft prompts", err, fmt.Sprintf("hidden size %d", hidden), "start vLLM with --enable-prompt-embeds, or set inference.soft_prompts: false")
	err = cl.LoadAdapter(ctx, "recpie-doctor", "/recpie-doctor-does-not-exist")
	switch fault.ClassOf(err) {
	case fault.Item: // refused for the missing folder: the route is there
		err = nil
	default:
		if err == nil {
			err = fmt.Errorf("the server says it loaded an adapter that does not exist")
		}
	}
	note("run-time adapters", err, "", "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; GPT-2 has no LoRA there")
	return out
}

var modelHidden = regexp.MustCompile(`model's hidden_size (\d+)`)

// probeHidden sends a row of a width that no model has and reads the right one out of the refusal.
func probeHidden(ctx context.Context, cl *vllm.Client) (int, error) {
	row, err := vllm.NewSoft([]float32{0, 0, 0}, 1, 3)
	if err != nil {
		return 0, err
	}
	_, err = cl.Chat(ctx, vllm.ChatRequest{Messages: []vllm.Message{vllm.User(row, "hello")}, Params: vllm.Params{MaxTokens: 1}})
	if err == nil {
		return 0, fmt.Errorf("the server took a soft prompt of width 3: it does not look at it")
	}
	if m := modelHidden.FindStringSubmatch(err.Error()); m != nil {
		return strconv.Atoi(m[1])
	}
	return 0, err
}

func examineTraining(ctx context.Context, c *config.Config) []finding {
	fail := func(err error, remedy string) []finding {
		return []finding{{Server: c.Training.URL, What: "reachable", Detail: err.Error(), Remedy: remedy}}
	}
	key, err := transport.SecretFromEnv(c.Training.KeyEnv)
	if err != nil {
		return fail(err, "export "+c.Training.KeyEnv)
	}
	s, err := training.Dial(ctx, training.Config{Settings: transport.Settings{BaseURL: c.Training.URL, Key: key, Attempts: 2}})
	if err != nil {
		return fail(err, "start the server, or set training.frozen: true")
	}
	defer s.Close(ctx)
	out := []finding{{Server: c.Training.URL, What: "reachable", OK: true}}
	base := c.Training.Model
	if base == "" {
		base = c.Inference.Model
	}
	f := finding{Server: c.Training.URL, What: "base model", Remedy: "set training.model"}
	for _, m := range s.Capabilities().SupportedModels {
		if m.ModelName == base {
			f.OK, f.Detail, f.Remedy = true, base, ""
		}
	}
	if !f.OK {
		f.Detail = fmt.Sprintf("%s is not among the %d models", base, len(s.Capabilities().SupportedModels))
	}
	soft := finding{Server: c.Training.URL, What: "prompt_embeds.v1", OK: s.PromptEmbeds(), Detail: "gradients of soft prompts"}
	if !soft.OK {
		soft.Remedy = "soft prompts are sent but stay frozen with this server"
	}
	return append(out, f, soft)
}
