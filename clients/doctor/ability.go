package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"recpie/clients/vllm"
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

// softPrompts finds out whether soft prompts are taken, and for which width.
func (c *chart) softPrompts(ctx context.Context, i Inference, cl *vllm.Client) {
	const what = "soft prompts"
	hidden, err := cl.SoftWidth(ctx)
	switch {
	case err == nil && i.SoftPrompts:
		c.ok(what, "hidden size %d", hidden)
	case err == nil:
		c.ok(what, "hidden size %d; inference.soft_prompts is off", hidden)
	case i.SoftPrompts:
		c.failed(Miss, what, "start vLLM 0.26 or newer with --enable-prompt-embeds, or set inference.soft_prompts: false", err)
		c.tells(pathSoft, plain(err.Error()))
	default:
		c.ok(what, "not taken; inference.soft_prompts is off")
	}
}

// adapters finds out whether adapters can be loaded while the server runs, and how many fit. A run that trains has one loaded that is not
// there: the answer tells. Else doctor only asks whether the route is there: GET is answered with 405 where POST would load. vLLM publishes
// its LoRA settings as labels of a metric when LoRA is on.
func (c *chart) adapters(ctx context.Context, i Inference, l *link, cl *vllm.Client, p page, seen bool, served []vllm.Model) {
	const (
		what  = "run-time adapters"
		slots = "adapter slots"
	)
	a, err := l.get(ctx, "/v1/load_lora_adapter")
	switch {
	case err != nil:
		c.lacksAdapters(i, what, err)
		return
	case a.status != http.StatusMethodNotAllowed:
		c.lacksAdapters(i, what, fmt.Errorf("the server has no route to load adapters: HTTP %d", a.status))
		return
	case seen && p.names["vllm:cache_config_info"] && !p.names["vllm:lora_requests_info"]:
		c.lacksAdapters(i, what, errors.New("the route is there, but LoRA is off"))
		return
	}
	detail := "the route is there"
	if i.Adapters {
		switch why, err := cl.RefusesAdapters(ctx); {
		case err != nil:
			c.lacksAdapters(i, what, err)
			return
		case why != "":
			c.lacksAdapters(i, what, errors.New("the route is there, but "+why))
			return
		}
		detail += ", and one that is not there is missed"
	}
	c.ok(what, "%s", detail)
	c.tells(i.path(), "")
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
		c.lacks(i.Adapters && i.Path != pathSoft, slots, "start vLLM with --max-loras 2 or more", fmt.Errorf("%d in one batch, %d loaded: a new version is loaded beside the one that answers", n, loaded))
	default:
		c.ok(slots, "%d in one batch, %d loaded", n, loaded)
	}
}

// lacksAdapters notes that adapters cannot be loaded. What that means depends on the path that the settings want.
func (c *chart) lacksAdapters(i Inference, what string, err error) {
	const remedy = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; GPT-2 has no LoRA there"
	switch {
	case i.Adapters && (i.Path == pathSoft || i.Path == pathMerged):
		c.ok(what, "not there, and policy.path: %s does without (%v)", i.Path, err)
	case i.Adapters && i.Path == pathAuto:
		c.failed(Warn, what, "see the policy path below; to have adapters, "+remedy, err)
	default:
		c.lacks(i.Adapters, what, remedy, err)
	}
	c.tells(i.path(), plain(err.Error()))
}
