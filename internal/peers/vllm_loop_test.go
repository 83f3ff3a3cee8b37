//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	loopRounds, loopSteps = 2, 6
	loopKillAfter         = 3 // steps of the first process
	loopGap               = 0.02
)

// loopRun is a "recpie train" whose explanations come from a real vLLM and whose policy is trained by "recpie lm serve", both on one checkpoint
// that our warm-up taught.
type loopRun struct {
	t        *testing.T
	dir      string
	run      string // run directory
	name     string // of the model
	model    string // its folder
	settings string // all but where the servers are
	port     int    // of the training server
	began    time.Time
}

// newLoop warms up the model of the settings.
func newLoop(t *testing.T, name, settings string) *loopRun {
	t.Helper()
	l := &loopRun{t: t, dir: t.TempDir(), name: name, settings: settings, port: freePort(t), began: time.Now()}
	l.run = filepath.Join(l.dir, "run")
	l.configure("", "")
	var warm struct{ Dir string }
	if err := json.Unmarshal(l.output("lm", "warmup", "-o", "json"), &warm); err != nil {
		t.Fatal(err)
	}
	l.model = warm.Dir
	if err := os.Symlink(warm.Dir, filepath.Join(need(t, "RECPIE_VLLM_MODELS"), name)); err != nil {
		t.Fatal(err)
	}
	t.Logf("warmed up after %s", time.Since(l.began).Round(time.Second))
	return l
}

// configure writes the settings, for a vLLM at a URL, with more of them at the end.
func (l *loopRun) configure(url, more string) {
	l.t.Helper()
	endpoints := ""
	if url != "" {
		endpoints = fmt.Sprintf("endpoints: [{url: %q}]", url)
	}
	text := fmt.Sprintf("run: %s\n%s\ninference: {model: %s, concurrency: 64, max_tokens: 48, %s}\ntraining: {url: \"http://127.0.0.1:%d\", rank: 8}\n%s", l.run, l.settings, l.name, endpoints, l.port, more)
	if err := os.WriteFile(filepath.Join(l.dir, "recpie.yaml"), []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// vllm starts a server of the model. A prompt that does not fit into a step is computed in pieces, and at a seeded one of those this build's
// engine ends on a CPU ("CPU Generator does not use offset"): all prompts in flight fit into one step.
func (l *loopRun) vllm(args ...string) *vllmServer {
	l.t.Helper()
	return startVLLM(l.t, l.name, nil, append([]string{"--max-model-len", "512", "--max-num-batched-tokens", "32768", "--enable-log-requests"}, args...)...)
}

// trainer starts the training server.
func (l *loopRun) trainer(args ...string) {
	l.t.Helper()
	cmd := l.command(append([]string{"lm", "serve", "--model", l.model, "--name", l.name, "--listen", fmt.Sprintf("127.0.0.1:%d", l.port), "--state", filepath.Join(l.dir, "state")}, args...)...)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func (l *loopRun) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.t.Context(), need(l.t, "RECPIE_PEERS_BIN"), append(args, "-c", filepath.Join(l.dir, "recpie.yaml"))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a command to its end.
func (l *loopRun) output(args ...string) []byte {
	l.t.Helper()
	cmd := l.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("recpie %s: %v\n%s", args[0], err, errs.Bytes())
	}
	return out
}

// train runs "recpie train". After so many policy steps it is killed, 0: never.
func (l *loopRun) train(killAfter int) (killed bool) {
	l.t.Helper()
	cmd := l.command("train")
	lines, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	var all bytes.Buffer
	for s := bufio.NewScanner(io.TeeReader(lines, &all)); s.Scan(); {
		if killAfter > 0 && strings.HasPrefix(s.Text(), fmt.Sprintf("  step %d:", killAfter)) {
			killed = true
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err != nil && !killed {
		l.t.Fatalf("recpie train: %v\n%s", err, all.Bytes())
	}
	return killed
}

// metricsLine is what is looked at of a line of metrics.jsonl.
type metricsLine struct {
	Key, Version string
	Step, Tokens int
	SamplerGap   *float64 `json:"sampler_gap"`
	Texts        int
	Rejected     any
}

func (l *loopRun) metrics() (all []metricsLine) {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.run, "metrics.jsonl"))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var m metricsLine
		if err := json.Unmarshal(line, &m); err != nil {
			l.t.Fatalf("%v in %s", err, line)
		}
		all = append(all, m)
	}
	return all
}

func freePort(t *testing.T) int {
	t.Helper()
	s, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Addr().(*net.TCPAddr).Port
}

// The whole loop on MovieLens 100K over two servers that hold one checkpoint: a real vLLM writes all texts, "recpie lm serve" trains, and
// every version is published to vLLM. The checkpoint is a Llama that our warm-up taught. The run is killed in the middle and goes on.
func TestVLLMLoop(t *testing.T) {
	l := newLoop(t, "small", fmt.Sprintf(`
data: {path: ml-100k, sample_pairs: 500, max_records: 30}
lm: {family: llama, layers: 2, hidden: 128, heads: 4, vocabulary: 1024, context: 512, warmup_steps: 150, warmup_rate: 3e-3}
prompts: {history: 2, terms: 4, token_budget: 384}
policy: {rounds: %d, steps: %d, pairs: 8, group: 4, validation: 64, learning_rate: 1e-3}
recommender: {seeds: 1}
`, loopRounds, loopSteps))
	// The list of modules as for the other servers of adapters.
	v := l.vllm("--enable-lora", "--max-loras", "8", "--max-cpu-loras", "8", "--max-lora-rank", "16", "--enable-prefix-caching",
		"--lora-target-modules", "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj")
	l.trainer("--adapter-root", "off")
	v.healthy()
	l.configure(v.url, "")
	t.Logf("both servers up after %s", time.Since(l.began).Round(time.Second))

	if !l.train(loopKillAfter) {
		t.Fatal("the run ended before it could be killed")
	}
	before := len(l.metrics())
	l.train(0)
	report(t, l.run)
	log, err := os.ReadFile(filepath.Join(l.run, "run.log"))
	if err != nil {
		t.Fatal(err)
	}
	_, sample, _ := strings.Cut(string(log), "records; ")
	sample, _, _ = strings.Cut(sample, "; read")
	t.Logf("MovieLens 100K, %s", sample)
	t.Logf("killed after step %d, with %d lines of metrics; finished after %s", loopKillAfter, before, time.Since(l.began).Round(time.Second))
	versions := l.checkMetrics(v)
	l.checkVersions(v, versions)
}

// checkMetrics holds the metrics against what vLLM was asked, and returns the versions of the steps.
func (l *loopRun) checkMetrics(v *vllmServer) (versions []string) {
	t := l.t
	texts, explained, seen := 0, 0, map[string]bool{}
	mean, most := 0.0, 0.0
	for _, m := range l.metrics() {
		switch kind, _, _ := strings.Cut(m.Key, "/"); kind {
		case "explanations":
			explained++
			texts += m.Texts
		case "step":
			if m.SamplerGap == nil || seen[m.Version] {
				t.Fatalf("line %+v", m)
			}
			seen[m.Version] = true
			versions = append(versions, m.Version)
			texts += m.Texts
			mean, most = mean+*m.SamplerGap, max(most, *m.SamplerGap)
		}
	}
	if len(versions) != loopRounds*loopSteps || explained != loopRounds+1 {
		t.Fatalf("%d steps and %d times explanations, want %d and %d", len(versions), explained, loopRounds*loopSteps, loopRounds+1)
	}
	mean /= float64(len(versions))
	if most > loopGap {
		t.Errorf("sampler and trainer are %.2g nats a token apart, allowed %g", most, loopGap)
	}
	loads := v.logged("Loaded new LoRA adapter")
	t.Logf("%d policy steps on texts of vLLM: sampler and trainer %.1e nats a token apart, at most %.1e; %d texts in all, %d adapters loaded, %d chats answered, %d refused",
		len(versions), mean, most, texts, loads, v.logged("POST /v1/chat/completions", "200"), v.logged("POST /v1/chat/completions")-v.logged("POST /v1/chat/completions", "200"))
	if want := loopRounds * (loopSteps + 1); loads < want {
		t.Errorf("%d adapters were loaded, want %d at least", loads, want)
	}
	return versions
}

// checkVersions asks for the list of versions, for whose name vLLM was asked, and for how far a version's answers are from those of the version
// before: far enough, answers of another version would show in the gap.
func (l *loopRun) checkVersions(v *vllmServer, versions []string) {
	t := l.t
	list := string(l.output("adapters", "list"))
	for _, name := range versions {
		if !strings.Contains(list, name) {
			t.Errorf("adapters list has no %s:\n%s", name, list)
		}
		asked := v.logged("Received request", name)
		if asked == 0 {
			t.Errorf("vLLM was never asked for %s", name)
		}
	}
	c := dial(t, v.url, "small")
	ids := tokenize(t, c, "The user watched this movie because the user likes comedy movies and the movie is praised for its acting.")
	score := func(name string) []float64 {
		if err := c.LoadAdapter(t.Context(), name, filepath.Join(l.run, "adapters", name)); err != nil {
			t.Fatal(err)
		}
		lps, err := c.Score(t.Context(), name, ids, 0)
		if err != nil {
			t.Fatal(err)
		}
		return lps
	}
	var moved []float64
	last := score(versions[0])
	for _, name := range versions[1:] {
		now := score(name)
		sum := 0.0
		for i := range now {
			sum += math.Abs(now[i]-last[i]) / float64(len(now))
		}
		moved = append(moved, sum)
		last = now
		if err := c.UnloadAdapter(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	t.Logf("a version is %.1e to %.1e nats a token from the one before", slices.Min(moved), slices.Max(moved))
	if m := slices.Min(moved); m < 1e-4 {
		t.Errorf("a step moves the log probabilities by %g only: an answer of another version would not be noticed", m)
	}
}
