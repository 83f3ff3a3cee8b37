package config

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// problem is what is wrong with the value of a key.
type problem struct{ key, text string }

// validate checks values against each other and against what can work; every fault found is reported, not just the first.
func (c *Config) validate() []problem {
	var found []problem
	bad := func(key, format string, args ...any) {
		found = append(found, problem{key, fmt.Sprintf(format, args...)})
	}
	oneOf := func(key, val string, allowed ...string) {
		if !slices.Contains(allowed, val) {
			bad(key, "%q is not one of %q", val, allowed)
		}
	}
	atLeast := func(key string, val, low int) {
		if val < low {
			bad(key, "%d is below %d", val, low)
		}
	}
	// between is a range of numbers with or without its ends, as "[0,1)"; NaN lies in none.
	between := func(key string, val float64, open string, low, high float64, shut string) {
		if !(val > low || open == "[" && val == low) || !(val < high || shut == "]" && val == high) {
			bad(key, "%g is not in %s%g, %g%s", val, open, low, high, shut)
		}
	}
	inf := math.Inf(1)
	oneOf("explanations", c.Explanations, "on", "off", "heuristic")
	oneOf("recommender.loss", c.Recommender.Loss, "mse", "bce")
	oneOf("prompts.source", c.Prompts.Source, "auto", "metadata", "reviews", "aspects")
	if c.Prompts.Redact && (c.Prompts.Source == "reviews" || c.Prompts.Source == "aspects") {
		bad("prompts.source", "%s comes from reviews, which prompts.redact leaves out", c.Prompts.Source)
	}
	oneOf("lm.family", c.LM.Family, "gpt2", "qwen2", "llama")
	oneOf("lm.dtype", c.LM.DType, "float32", "bfloat16")
	oneOf("policy.path", c.Policy.Path, "auto", "lora", "soft_prompt", "merged")
	if c.Policy.Path == "merged" && !c.Training.Frozen && c.Policy.Rounds > 0 && c.Explanations == "on" {
		for key, val := range map[string]string{"lm.dir": c.LM.Dir, "training.url": c.Training.URL} {
			if val == "" {
				bad(key, "policy.path: merged needs it: the model's folder is merged with what the training server trained")
			}
		}
		if len(c.Inference.Endpoints) == 0 {
			bad("inference.endpoints", "policy.path: merged is for servers that take no adapters, and none is named")
		}
	}
	oneOf("policy.credit", c.Policy.Credit, "crossed", "pair", "side")
	if c.Run == "" {
		bad("run", "no run directory")
	}
	if c.Data.Path == "" {
		bad("data.path", "no data: name a folder, or ml-100k")
	}
	atLeast("data.sample_pairs", c.Data.SamplePairs, 0)
	atLeast("data.min_records", c.Data.MinRecords, 2)
	atLeast("data.max_records", c.Data.MaxRecords, 0)
	for _, x := range []struct {
		key string
		val int
	}{
		{"lm.kv_memory", c.LM.KVMemory}, {"lm.layers", c.LM.Layers}, {"lm.hidden", c.LM.Hidden}, {"lm.heads", c.LM.Heads}, {"lm.warmup_batch", c.LM.WarmupBatch}, {"lm.warmup_samples", c.LM.WarmupSamples},
		{"lm.context", c.LM.Context}, {"prompts.token_budget", c.Prompts.TokenBudget}, {"inference.concurrency", c.Inference.Concurrency}, {"inference.max_tokens", c.Inference.MaxTokens},
		{"training.rank", c.Training.Rank}, {"policy.steps", c.Policy.Steps}, {"policy.pairs", c.Policy.Pairs}, {"policy.epochs", c.Policy.Epochs},
		{"policy.minibatch", c.Policy.Minibatch}, {"policy.validation", c.Policy.Validation}, {"recommender.epochs", c.Recommender.Epochs}, {"recommender.dim", c.Recommender.Dim},
		{"recommender.patience", c.Recommender.Patience}, {"recommender.seeds", c.Recommender.Seeds}, {"recommender.history", c.Recommender.History}, {"encoder.batch", c.Encoder.Batch},
	} {
		atLeast(x.key, x.val, 1)
	}
	atLeast("policy.rounds", c.Policy.Rounds, 0)
	atLeast("lm.warmup_steps", c.LM.WarmupSteps, 0)
	atLeast("lm.threads", c.LM.Threads, 0)
	atLeast("inference.cache_size", c.Inference.CacheSize, 0)
	atLeast("recommender.batch", c.Recommender.Batch, 0)
	if c.Recommender.History > 1000 {
		bad("recommender.history", "%d is above 1000", c.Recommender.History)
	}
	atLeast("prompts.history", c.Prompts.History, 0)
	atLeast("prompts.terms", c.Prompts.Terms, 0)
	atLeast("recommender.folds", c.Recommender.Folds, 2)
	oneOf("evaluate.ranking", c.Evaluate.Ranking, "on", "off")
	atLeast("evaluate.users", c.Evaluate.Users, 0)
	atLeast("evaluate.positives", c.Evaluate.Positives, 0)
	atLeast("evaluate.negatives", c.Evaluate.Negatives, 1)
	atLeast("evaluate.explained_lists", c.Evaluate.Explained, 0)
	if ks := c.Evaluate.Ks(); len(ks) == 0 {
		bad("evaluate.cutoffs", "%q is no list of numbers from 1 upwards with commas between, as 5,10", c.Evaluate.Cutoffs)
	}
	atLeast("lm.vocabulary", c.LM.Vocabulary, 300)
	if c.LM.Heads > 0 && c.LM.Hidden%c.LM.Heads != 0 {
		bad("lm.hidden", "%d is not a multiple of lm.heads (%d)", c.LM.Hidden, c.LM.Heads)
	}
	if c.Preset == "embedded" && len(c.Inference.Endpoints) == 0 && c.Prompts.TokenBudget+c.Inference.MaxTokens > c.LM.Context {
		bad("prompts.token_budget", "%d plus inference.max_tokens (%d) is more than lm.context (%d)", c.Prompts.TokenBudget, c.Inference.MaxTokens, c.LM.Context)
	}
	if c.Policy.Path == "soft_prompt" && !c.Inference.SoftPrompts && !c.Training.Frozen {
		bad("policy.path", "soft_prompt trains the soft prompts alone, and inference.soft_prompts is false: set training.frozen: true to train neither")
	}
	if c.Policy.Group < 2 && c.Policy.Credit != "side" && c.Policy.Rounds > 0 {
		bad("policy.group", "%d: the advantage compares alternatives of one pair, so at least 2 are needed", c.Policy.Group)
	}
	for key, val := range map[string]float64{"lm.warmup_rate": c.LM.WarmupRate, "policy.learning_rate": c.Policy.LearningRate, "policy.kl_target": c.Policy.KLTarget, "policy.temperature": c.Policy.Temperature} {
		between(key, val, "(", 0, inf, ")")
	}
	for key, val := range map[string]float64{
		"inference.request_rate": c.Inference.RequestRate, "inference.token_rate": c.Inference.TokenRate,
		"inference.price_prompt": c.Inference.PricePrompt, "inference.price_answer": c.Inference.PriceAnswer, "policy.projection_rate": c.Policy.ProjectionRate,
		"policy.kl": c.Policy.KL, "policy.format_penalty": c.Policy.FormatPenalty, "policy.max_kl": c.Policy.MaxKL, "policy.max_sampler_gap": c.Policy.MaxSamplerGap,
		"policy.min_entropy": c.Policy.MinEntropy, "recommender.learning_rate": c.Recommender.LR, "recommender.weight_decay": c.Recommender.WeightDecay,
		"recommender.id_l2": c.Recommender.IDL2,
	} {
		between(key, val, "[", 0, inf, ")")
	}
	between("policy.clip", c.Policy.Clip, "(", 0, 1, ")")
	between("policy.max_rejected", c.Policy.MaxRejected, "[", 0, 1, "]")
	between("policy.min_unique", c.Policy.MinUnique, "[", 0, 1, "]")
	between("policy.min_distinct", c.Policy.MinDistinct, "[", 0, 1, "]")
	between("recommender.dropout", c.Recommender.Dropout, "[", 0, 1, ")")
	between("recommender.input_dropout", c.Recommender.InputDrop, "[", 0, 1, ")")
	between("recommender.learning_rate_decay", c.Recommender.LRDecay, "(", 0, 1, "]")
	if c.Inference.Timeout <= 0 {
		bad("inference.timeout", "%v is not above 0", c.Inference.Timeout)
	}
	place := func(section, field, raw, env string) {
		u, err := url.Parse(raw)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			bad(section+"."+field, "%q is not an http or https address", redacted(u))
		} else if u.User != nil {
			bad(section+"."+field, "credentials in an address end up in logs: put the key into an environment variable and name it in key_env")
		}
		if env != "" && !envName.MatchString(env) {
			bad(section+".key_env", "it must be the name of an environment variable, not a key")
		}
	}
	address := func(section, raw, env string) { place(section, "url", raw, env) }
	for i, e := range c.Inference.Endpoints {
		at := fmt.Sprintf("inference.endpoints[%d]", i)
		address(at, e.URL, e.KeyEnv)
		oneOf(at+".kind", e.Kind, "", "vllm", "tgi")
		if e.Kind != "tgi" && (len(e.Adapters) > 0 || e.Chat) {
			bad(at, "adapters and chat are for kind: tgi; a vLLM server tells them itself")
		}
		if e.Kind == "tgi" && !c.Training.Frozen && c.Explanations == "on" && c.Policy.Rounds > 0 {
			bad(at+".kind", "adapters cannot be published to a tgi server while it runs: set training.frozen: true")
		}
	}
	if c.Training.URL != "" {
		address("training", c.Training.URL, c.Training.KeyEnv)
	}
	if e := c.Encoder; e.Endpoint != "" {
		place("encoder", "endpoint", e.Endpoint, e.KeyEnv)
		if e.Dir != "" {
			bad("encoder.endpoint", "encoder.dir names an encoder too: keep one of them")
		}
		if e.Model == "" {
			bad("encoder.model", "encoder.endpoint needs the name of a model")
		}
	} else if e.Model != "" || e.KeyEnv != "" {
		bad("encoder.endpoint", "encoder.model and encoder.key_env are about an endpoint, and none is named")
	}
	slices.SortFunc(found, func(a, b problem) int { return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.text, b.text)) })
	return found
}

// redacted shows an address without what may be secret in it.
func redacted(u *url.URL) string {
	switch {
	case u == nil || u.Scheme == "" && u.Path != "":
		return "(unreadable)"
	case *u == url.URL{}:
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Ks are the cut-offs as numbers, ascending, each once; nil when the setting is no list of such.
func (e Evaluate) Ks() []int {
	var ks []int
	for part := range strings.SplitSeq(e.Cutoffs, ",") {
		k, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || k < 1 {
			return nil
		}
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return slices.Compact(ks)
}
