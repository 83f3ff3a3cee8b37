//go:build peers

package peers

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A GPT-2, on which vLLM has no LoRA, trained all the same: our server samples and trains the steps, each round ends with a merged
// checkpoint, and vLLM is started again on it, as the message says, before the same command goes on.
func TestVLLMMerged(t *testing.T) {
	const steps = 3
	v := startVLLM(t, "warm-gpt2", nil, "--max-model-len", "512", "--max-num-batched-tokens", "32768")
	root := t.TempDir()
	v.healthy()
	l := newLoopAt(t, v.url, "warm-gpt2", "{rounds: 2, steps: 3, pairs: 8, group: 4, validation: 64, learning_rate: 3e-4, max_rejected: 0.9, path: merged}\npublish: {local_dir: "+root+"}\nlm: {dir: "+filepath.Join(need(t, "RECPIE_VLLM_MODELS"), "warm-gpt2")+"}", root)
	for round, name := range []string{`policy-v000003-[0-9a-f]{8}`, `policy-v000007-[0-9a-f]{8}`} {
		text := l.fails()
		version := regexp.MustCompile(name).FindString(text)
		if version == "" || !strings.Contains(text, "--served-model-name "+version) {
			t.Fatalf("round %d ends with\n%s", round+1, text)
		}
		v.kill()
		v.args[2] = filepath.Join(root, "merged", version) // the script names it after its folder
		v.start()
		t.Logf("round %d: served again, on %s, after %s", round+1, version, v.healthy())
	}
	l.train("")
	l.check(2, steps)
	adapters, err := filepath.Glob(filepath.Join(root, "policy-*", "adapter_model.safetensors"))
	if err != nil || len(adapters) != 2*(steps+1) {
		t.Errorf("%d adapters, %v", len(adapters), err)
	}
	log, err := os.ReadFile(l.path("run", "run.log"))
	if err != nil || strings.Count(string(log), "explanations, round 2 done") != 1 {
		t.Errorf("%v, run.log\n%s", err, log)
	}
}
