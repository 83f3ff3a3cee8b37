//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The whole loop on real data: a vLLM writes the sentences and serves each version of the adapter, our server trains it. The run is
// killed in the middle of a round and continued by the same command. Sampler and trainer must agree in every step, which they do only if vLLM
// samples from the version that was published last and from the soft prompts that the trainer sees.
func TestVLLMLoop(t *testing.T) {
	const steps = 4
	l := newLoop(t, "warm", fmt.Sprintf("{rounds: 2, steps: %d, pairs: 8, group: 4, validation: 64, learning_rate: 1e-3}", steps))
	l.train("step 6:") // the second round's second
	l.train("")
	l.check(2, steps)
	out, err := exec.CommandContext(t.Context(), l.bin, "adapters", "list", "--run", l.path("run"), "-o", "json").Output()
	var listed []struct{ Active bool }
	if err == nil {
		err = json.Unmarshal(out, &listed)
	}
	if err != nil || len(listed) < 2*steps {
		t.Errorf("recpie adapters list: %v, %d versions", err, len(listed))
	}
}

// vLLM serves no adapters on GPT-2. Doctor finds out and says what a run will do, and the run trains the soft prompts alone.
func TestVLLMSoftLoop(t *testing.T) {
	const steps = 3
	l := newLoop(t, "warm-gpt2", fmt.Sprintf("{rounds: 1, steps: %d, pairs: 8, group: 4, validation: 64, projection_rate: 0.02, max_rejected: 0.9}", steps))
	out, err := exec.CommandContext(t.Context(), l.bin, "doctor", "-c", l.path("recpie.yaml")).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "run-time adapters") || strings.Contains(line, "policy path") || strings.Contains(line, "policy.path") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if text := string(out); err != nil || !strings.Contains(text, "LoRA is off") || !strings.Contains(text, "soft_prompt: the language model stays as it is") || !strings.Contains(text, "policy.path: merged") {
		t.Errorf("doctor on a GPT-2: %v\n%s", err, out)
	}
	if text := l.fails("--set", "policy.path=lora", "--run", l.path("run-lora")); !strings.Contains(text, "LoRA is off") || !strings.Contains(text, "policy.path: auto") {
		t.Errorf("policy.path: lora says\n%s", text)
	}
	l.train("")
	l.check(1, steps)
}

// newLoop starts our training server over one of the models and writes the settings of a run with it and the script's vLLM.
func newLoop(t *testing.T, model, policy string) *loopRun {
	t.Helper()
	return newLoopAt(t, need(t, "RECPIE_VLLM_URL"), model, policy, "off")
}

// newLoopAt does it for a vLLM at an address. The training server loads adapters from root.
func newLoopAt(t *testing.T, url, model, policy, root string) *loopRun {
	t.Helper()
	l := &loopRun{t: t, dir: t.TempDir(), bin: need(t, "RECPIE_PEERS_BIN")}
	config := fmt.Sprintf(`run: %s
data: {path: ml-100k, sample_pairs: 300, max_records: 60}
inference:
  model: %s
  endpoints: [{url: %s}]
  concurrency: 64
training: {url: %s, rank: 8}
policy: %s
recommender: {seeds: 1, epochs: 6}
`, l.path("run"), model, url, l.serveTraining(filepath.Join(need(t, "RECPIE_VLLM_MODELS"), model), root), policy)
	if err := os.WriteFile(l.path("recpie.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return l
}

// check reads what a finished run left: a version per step, sampler and trainer that agree, a report.
func (l *loopRun) check(rounds, steps int) {
	t := l.t
	t.Helper()
	text, err := os.ReadFile(l.path("run", "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	versions, mean, worst, moved := map[string]bool{}, 0.0, 0.0, 0.0
	for line := range bytes.Lines(text) {
		var m struct {
			Key     string
			Version string
			Gap     *float64 `json:"sampler_gap"`
			KL      struct{ K3 float64 }
		}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("metrics.jsonl: %v", err)
		}
		if !strings.HasPrefix(m.Key, "step/") {
			continue
		}
		if m.Gap == nil || m.Version == "" {
			t.Fatalf("a step without gap or version: %s", line)
		}
		versions[m.Version], mean, worst, moved = true, mean+*m.Gap, max(worst, *m.Gap), max(moved, m.KL.K3)
	}
	t.Logf("%d steps of as many versions, sampler and trainer %.2g nats a token apart, at most %.2g, %.3g nats from the base model", len(versions), mean/float64(max(1, len(versions))), worst, moved)
	if len(versions) != rounds*steps {
		t.Errorf("%d steps, want %d: %v", len(versions), rounds*steps, versions)
	}
	if worst > 0.02 || worst == 0 {
		t.Errorf("sampler and trainer are %g nats a token apart, at most .02 is allowed", worst)
	}
	if moved < 1e-4 { // else a stale version would go unnoticed
		t.Errorf("the policy stayed at the base model (%g nats)", moved)
	}
	var report struct {
		Test struct{ Rounds []struct{ RMSE float64 } }
	}
	if text, err = os.ReadFile(l.path("run", "report.json")); err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || len(report.Test.Rounds) != rounds || report.Test.Rounds[rounds-1].RMSE <= 0 {
		t.Errorf("report.json: %v, %+v", err, report)
	}
	if s, err := os.Stat(l.path("run", "report.html")); err != nil || s.Size() < 10000 {
		t.Errorf("report.html: %v", err)
	}
}

// loopRun is one "recpie train".
type loopRun struct {
	t        testing.TB
	dir, bin string
	more     []string // arguments of the command
}

func (l *loopRun) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// serveTraining starts our server over the model until the test ends and returns its address.
func (l *loopRun) serveTraining(model, root string) string {
	l.t.Helper()
	cmd := exec.Command(l.bin, "lm", "serve", "--model", model, "--listen", "127.0.0.1:0", "--adapter-root", root, "--state", l.path("state"))
	errs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), " on http://"); ok {
			go func() {
				for lines.Scan() {
				}
			}()
			return "http://" + strings.Fields(after)[0]
		}
	}
	l.t.Fatal("the training server ended before it served")
	return ""
}

// fails runs the loop, which must not come to its end, and returns what it says.
func (l *loopRun) fails(args ...string) string {
	l.t.Helper()
	args = append([]string{"train", "-c", l.path("recpie.yaml")}, append(args, l.more...)...)
	out, err := exec.CommandContext(l.t.Context(), l.bin, args...).CombinedOutput()
	if err == nil {
		l.t.Fatalf("recpie %q succeeded:\n%s", args, out)
	}
	return string(out)
}

// train runs the loop, and kills it when its output says the word.
func (l *loopRun) train(killAt string) {
	l.t.Helper()
	began := time.Now()
	cmd := exec.CommandContext(l.t.Context(), l.bin, append([]string{"train", "-c", l.path("recpie.yaml")}, l.more...)...)
	errs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	var text bytes.Buffer
	killed := false
	var read sync.WaitGroup
	read.Go(func() {
		lines := bufio.NewScanner(errs)
		for lines.Scan() {
			fmt.Fprintln(&text, lines.Text())
			if killAt != "" && strings.Contains(lines.Text(), killAt) {
				killed = true
				_ = cmd.Process.Kill()
			}
		}
	})
	read.Wait()
	err = cmd.Wait()
	if killed != (killAt != "") || !killed && err != nil {
		l.t.Fatalf("recpie train (to be killed at %q): %v\n%s", killAt, err, text.Bytes())
	}
	l.t.Logf("%.0f s until %q", time.Since(began).Seconds(), killAt)
}
