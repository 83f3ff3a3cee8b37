package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"recpie/clients/vllm"
	"recpie/internal/fault"
)

// sampleText is what the template check sends, and sampleWords how many words that is.
const (
	sampleText  = "Tell in one sentence why this user would like this film."
	sampleWords = 11
)

// template asks for the tokens of a chat and returns them. Only training cannot do without: whether chats are answered at all, the
// canary tells.
func (c *chart) template(ctx context.Context, i Inference, cl *vllm.Client) []int32 {
	const what = "chat template"
	ids, err := cl.TokenizeChat(ctx, []vllm.Message{vllm.User(vllm.Soft{}, sampleText)})
	if err != nil {
		c.lacks(i.Adapters, what, "serve a chat model, or give the server --chat-template", err)
		return nil
	}
	c.ok(what, "%d tokens for %d words", len(ids), sampleWords)
	return ids
}

// scoring asks for the log-probabilities of a prompt, which the policy needs for its reference.
func (c *chart) scoring(ctx context.Context, i Inference, cl *vllm.Client, ids []int32) {
	const what = "prompt scoring"
	if len(ids) < 2 {
		return // the template's finding says why
	}
	if _, err := cl.Score(ctx, i.Model, ids, 0); err != nil {
		c.lacks(i.Adapters, what, "training needs echo with max_tokens 0 and logprobs, which vLLM answers: serve vLLM, or set training.frozen: true", err)
		return
	}
	c.ok(what, "echo with max_tokens 0")
}

var modelHidden = regexp.MustCompile(`model's hidden_size (\d+)`)

// hiddenSize sends a row of a width that no model has and reads the right one out of the refusal. Servers that know soft prompts in
// a chat check their width (vLLM brought both at once); older ones refuse the part itself.
func hiddenSize(ctx context.Context, cl *vllm.Client) (int, error) {
	row, err := vllm.NewSoft([]float32{0, 0, 0}, 1, 3)
	if err != nil {
		return 0, err
	}
	_, err = cl.Chat(ctx, vllm.ChatRequest{Messages: []vllm.Message{vllm.User(row, "hello")}, Params: vllm.Params{MaxTokens: 1}})
	if err == nil {
		return 0, fault.Newf(fault.Endpoint, "soft prompt", "the server took a row of width 3: it does not look at it")
	}
	if m := modelHidden.FindStringSubmatch(err.Error()); m != nil {
		return strconv.Atoi(m[1])
	}
	return 0, err
}

// softPrompts finds out whether soft prompts are taken, and for which width.
func (c *chart) softPrompts(ctx context.Context, i Inference, cl *vllm.Client) {
	const what = "soft prompts"
	hidden, err := hiddenSize(ctx, cl)
	switch {
	case err == nil && i.SoftPrompts:
		c.ok(what, "hidden size %d", hidden)
	case err == nil:
		c.ok(what, "hidden size %d; inference.soft_prompts is off", hidden)
	case i.SoftPrompts:
		c.failed(Miss, what, "start vLLM 0.26 or newer with --enable-prompt-embeds, or set inference.soft_prompts: false", err)
	default:
		c.ok(what, "not taken; inference.soft_prompts is off")
	}
}

// adapters finds out whether adapters can be loaded while the server runs, and how many fit. It only asks whether the route is there:
// GET is answered with 405 where POST would load. vLLM publishes its LoRA settings as labels of a metric when LoRA is on.
func (c *chart) adapters(ctx context.Context, i Inference, l *link, p page, seen bool, served []vllm.Model) {
	const (
		what  = "run-time adapters"
		slots = "adapter slots"

		remedy = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. For a model on which it serves no adapters, as GPT-2, set training.adapter: false, which trains " +
			"the soft prompts alone, or serve a trained model merged (recpie lm merge) with training.frozen: true"
	)
	if i.Adapters && i.SoftOnly {
		c.ok(what, "not needed: the soft prompts alone are trained (training.adapter: false)")
		return
	}
	a, err := l.get(ctx, "/v1/load_lora_adapter")
	switch {
	case err != nil:
		c.lacks(i.Adapters, what, remedy, err)
		return
	case a.status != http.StatusMethodNotAllowed:
		c.lacks(i.Adapters, what, remedy, fmt.Errorf("the server has no route to load adapters: HTTP %d", a.status))
		return
	case seen && p.names["vllm:cache_config_info"] && !p.names["vllm:lora_requests_info"]:
		c.lacks(i.Adapters, what, remedy, errors.New("the route is there, but LoRA is off"))
		return
	}
	c.ok(what, "the route is there")
	loaded := 0
	for _, m := range served {
		if m.Parent != "" {
			loaded++
		}
	}
	n, err := strconv.Atoi(p.lora["max_lora"])
	switch {
	case err != nil:
		c.ok(slots, "%d adapters loaded, the limit is not stated", loaded)
	case n < 2:
		c.lacks(i.Adapters, slots, "start vLLM with --max-loras 2 or more", fmt.Errorf("%d in one batch, %d loaded: a new version is loaded beside the one that answers", n, loaded))
	default:
		c.ok(slots, "%d in one batch, %d loaded", n, loaded)
	}
}
