//go:build peers

package peers

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fails runs a command that must not succeed and returns what it says.
func (l *loopRun) fails(args ...string) string {
	l.t.Helper()
	text, err := l.command(args...).CombinedOutput()
	if err == nil {
		l.t.Fatalf("recpie %q succeeded:\n%s", args, text)
	}
	return string(text)
}

// A GPT-2, on which vLLM has no LoRA. doctor sees that and names the path; soft prompts alone are trained, or each round ends with a
// checkpoint that the server is started again on.
func TestVLLMPaths(t *testing.T) {
	l := newLoop(t, "writing-gpt2", `
data: {path: ml-100k, sample_pairs: 150, max_records: 30}
lm: {layers: 2, hidden: 192, heads: 6, vocabulary: 1024, context: 512, warmup_steps: 120, warmup_rate: 3e-3}
prompts: {history: 2, terms: 4, token_budget: 384}
policy: {rounds: 1, steps: 3, pairs: 8, group: 4, validation: 16, learning_rate: 1e-3}
recommender: {seeds: 1}
`)
	v := l.vllm()
	root := filepath.Join(l.dir, "versions")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	l.trainer("--adapter-root", root)
	v.healthy()
	l.configure(v.url, "publish: {local_dir: "+root+"}\n")
	said := string(l.output("doctor"))
	for _, line := range strings.Split(said, "\n") {
		if strings.Contains(line, "adapters") || strings.Contains(line, "path") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if !strings.Contains(said, "soft_prompt: the language model stays") || !strings.Contains(said, "LoRA is off") || !strings.Contains(said, "policy.path: merged") {
		t.Errorf("doctor:\n%s", said)
	}
	if text := l.fails("train", "--set", "policy.path=lora"); !strings.Contains(text, "LoRA is off") || !strings.Contains(text, "policy.path: auto") {
		t.Errorf("policy.path: lora says\n%s", text)
	}
	if err := os.RemoveAll(l.run); err != nil {
		t.Fatal(err)
	}

	t.Run("soft_prompt", func(t *testing.T) {
		began := time.Now()
		l.train(0)
		if n := len(adaptersIn(t, root)); n > 0 {
			t.Errorf("%d adapters were written", n)
		}
		steps, worst := 0, 0.0
		for _, m := range l.metrics() {
			if m.SamplerGap != nil {
				steps, worst = steps+1, max(worst, *m.SamplerGap)
			}
		}
		if steps != 3 || worst > loopGap {
			t.Errorf("%d steps, sampler and trainer at most %g nats apart", steps, worst)
		}
		report(t, l.run)
		t.Logf("%d steps on soft prompts alone in %s: sampler and trainer at most %.1e nats a token apart", steps, time.Since(began).Round(time.Second), worst)
	})
	t.Run("merged", func(t *testing.T) {
		began := time.Now()
		l.run = filepath.Join(l.dir, "run-merged")
		l.configure(v.url, "publish: {local_dir: "+root+"}\n")
		merged := []string{"train", "--set", "policy.path=merged", "--set", "lm.dir=" + l.model}
		text := l.fails(merged...)
		version := regexp.MustCompile(`policy-v000003-[0-9a-f]{8}`).FindString(text)
		if version == "" || !strings.Contains(text, "--served-model-name "+version) {
			t.Fatalf("it ends with\n%s", text)
		}
		v.kill()
		// as the message says: the same address, the merged checkpoint, its name
		v.args[2] = filepath.Join(root, "merged", version)
		v.start()
		v.healthy()
		if n := len(adaptersIn(t, root)); n != 4 {
			t.Errorf("%d adapters, want 4", n)
		}
		cmd := l.command(merged...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, errs.Bytes())
		}
		report(t, l.run)
		asked := v.logged("POST /v1/chat/completions", "200")
		t.Logf("stopped after the round for %s, finished on it after %s; vLLM answered %d chats", version, time.Since(began).Round(time.Second), asked)
	})
}

func adaptersIn(t *testing.T, root string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "policy-*", "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// report checks that a run ended with both reports.
func report(t *testing.T, run string) {
	t.Helper()
	var r map[string]any
	text, err := os.ReadFile(filepath.Join(run, "report.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(run, "report.html")); err != nil || info.Size() == 0 {
		t.Errorf("report.html: %v", err)
	}
}
