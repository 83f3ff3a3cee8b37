package config

// presets hold what differs from Default for each model of the paper's Table 4. The adapter ranks are ours: the paper gives none.
var presets = map[string]map[string]any{
	"embedded":     {},
	"llama-3.1-8b": served("meta-llama/Llama-3.1-8B-Instruct"),
	"llama-3-8b":   served("meta-llama/Meta-Llama-3-8B-Instruct"),
	"mixtral-8x7b": served("mistralai/Mixtral-8x7B-Instruct-v0.1"),
	"vicuna-7b":    served("lmsys/vicuna-7b-v1.5"),
	"qwen2-7b":     served("Qwen/Qwen2-7B-Instruct"),
	"gpt2": merge(served("openai-community/gpt2"), map[string]any{
		// vLLM has no LoRA for GPT-2: policy.path chooses between soft prompts alone and merged checkpoints.
		"prompts": map[string]any{"history": 5, "token_budget": 700},
	}),
}

// served is a model on inference servers: larger prompts, more in flight, all pairs.
func served(model string) map[string]any {
	return map[string]any{
		"data":      map[string]any{"sample_pairs": 0},
		"inference": map[string]any{"model": model, "concurrency": 256, "max_tokens": 96},
		"prompts":   map[string]any{"history": 10, "token_budget": 3000},
		"policy":    map[string]any{"rounds": 5, "steps": 50, "pairs": 16, "learning_rate": 1e-5, "kl_target": 6.0},
	}
}

func merge(base, over map[string]any) map[string]any {
	for k, v := range over {
		base[k] = v
	}
	return base
}
