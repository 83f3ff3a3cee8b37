package policy

import (
	"strings"
	"testing"

	"recpie/internal/fault"
)

func TestChoosePath(t *testing.T) {
	noLoRA := Obstacles{LoRA: "LoRA is off"}
	nothing := Obstacles{LoRA: "LoRA is off", SoftPrompt: "no gradients", Merged: "lm.dir is not set"}
	for name, tc := range map[string]struct {
		want Path
		o    Obstacles
		path Path
		why  string
		says string // of error and hint
	}{
		"all open":               {want: PathAuto, path: PathLoRA},
		"unset":                  {path: PathLoRA},
		"no adapters":            {want: PathAuto, o: noLoRA, path: PathSoftPrompt, why: "LoRA is off"},
		"nothing":                {want: PathAuto, o: nothing, says: "adapters cannot be loaded (LoRA is off), and soft prompts cannot be trained (no gradients) --enable-lora --enable-prompt-embeds policy.path: merged training.frozen"},
		"auto merges nothing":    {want: PathAuto, o: Obstacles{LoRA: "off", SoftPrompt: "off"}, says: "policy.path: merged"},
		"lora":                   {want: PathLoRA, path: PathLoRA},
		"lora refused":           {want: PathLoRA, o: noLoRA, says: "LoRA is off GPT-2 policy.path: auto"},
		"soft_prompt by choice":  {want: PathSoftPrompt, path: PathSoftPrompt},
		"soft_prompt impossible": {want: PathSoftPrompt, o: nothing, says: "no gradients inference.soft_prompts"},
		"merged":                 {want: PathMerged, o: noLoRA, path: PathMerged},
		"merged impossible":      {want: PathMerged, o: nothing, says: "lm.dir is not set recpie lm serve"},
		"unknown":                {want: "adapter", says: `"adapter" is no path soft_prompt`},
	} {
		t.Run(name, func(t *testing.T) {
			path, why, err := ChoosePath(tc.want, tc.o)
			if path != tc.path || why != tc.why || (err != nil) != (tc.says != "") {
				t.Fatalf("%q, %q, %v", path, why, err)
			}
			if err == nil {
				return
			}
			text := err.Error() + " " + fault.HintOf(err)
			for _, word := range strings.Fields(tc.says) {
				if !strings.Contains(text, word) {
					t.Errorf("%q says nothing of %s", text, word)
				}
			}
		})
	}
}
