package policy

import (
	"recpie/internal/fault"
)

// Path is how what a run learns reaches the inference servers.
type Path string

// The paths. Auto takes LoRA where every server takes adapters, else SoftPrompt.
const (
	PathAuto       Path = "auto"
	PathLoRA       Path = "lora"        // versions of the adapter are loaded while the servers run
	PathSoftPrompt Path = "soft_prompt" // the language model stays as it is: only the projection of the users' embeddings is trained
	PathMerged     Path = "merged"      // the training server samples the steps; each round's adapter is merged into a checkpoint for the servers
)

// Obstacles say why a path is closed to a run, in words; "" means that it is open.
type Obstacles struct {
	LoRA, SoftPrompt, Merged string
}

// Remedies of the paths' obstacles.
const (
	openLoRA   = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (it has no LoRA for GPT-2)"
	openSoft   = "set inference.soft_prompts: true, with vLLM started with --enable-prompt-embeds and a training server that returns gradients of soft rows (recpie lm serve)"
	openMerged = "policy.path: merged, with recpie lm serve as the training server and the model's folder in lm.dir"
	openNone   = "training.frozen: true"
)

// ChoosePath returns the path that a run takes. why says in words what decided, where a wanted path had to be left.
func ChoosePath(want Path, o Obstacles) (path Path, why string, err error) {
	const op = "policy: path"
	closed := func(format, remedy string, args ...any) (Path, string, error) {
		return "", "", fault.WithHint(fault.Newf(fault.Fatal, op, format, args...), remedy)
	}
	switch want {
	case PathAuto, "":
		switch {
		case o.LoRA == "":
			return PathLoRA, "", nil
		case o.SoftPrompt == "":
			return PathSoftPrompt, o.LoRA, nil
		}
		return closed("adapters cannot be loaded (%s), and soft prompts cannot be trained (%s)", openLoRA+"; or "+openSoft+"; or "+openMerged+"; or "+openNone, o.LoRA, o.SoftPrompt)
	case PathLoRA:
		if o.LoRA != "" {
			return closed("policy.path is lora, but adapters cannot be loaded: %s", openLoRA+"; or set policy.path: auto", o.LoRA)
		}
	case PathSoftPrompt:
		if o.SoftPrompt != "" {
			return closed("policy.path is soft_prompt, but soft prompts cannot be trained: %s", openSoft+"; or set "+openNone, o.SoftPrompt)
		}
	case PathMerged:
		if o.Merged != "" {
			return closed("policy.path is merged, but the policy cannot be sampled at the training server: %s", openMerged, o.Merged)
		}
	default:
		return closed("%q is no path", "set policy.path to auto, lora, soft_prompt or merged", want)
	}
	return want, "", nil
}
