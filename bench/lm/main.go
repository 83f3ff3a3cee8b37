// Command lm compares the embedded language model with its peers on the same weights, in one run: batched generation with transformers'
// generate and with vLLM on the CPU, and PPO updates with PyTorch and PEFT. The sides take turns, and the best time of each counts.
// See README.md.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"

	"recpie/internal/lm"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
)

func main() {
	reexec.Ensure()
	var o options
	flag.StringVar(&o.python, "python", "", "Python with transformers, vLLM and PEFT (setup.sh prints one); empty: this side only")
	flag.StringVar(&o.script, "peer", "bench/lm/peer.py", "the Python side")
	flag.StringVar(&o.peers, "peers", "transformers,vllm,peft", "which peers, separated by commas")
	flag.StringVar(&o.family, "family", lm.TypeLlama, "architecture: llama, gpt2, qwen2, mistral or mixtral")
	flag.IntVar(&o.turns, "turns", 3, "turns per case")
	flag.IntVar(&o.threads, "threads", 2, "threads per side")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of this side here")
	flat := flag.Bool("memory", false, "instead, the memory of 10,000 generations and 2,000 updates")
	flag.StringVar(&o.only, "only", "", "cases whose name contains this")
	flag.Parse()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench/lm:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	work := func() error { return compare(os.Stdout, o) }
	if *flat {
		torch.SetThreads(1)
		work = func() error { return memory(os.Stdout, o.family, o.threads) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/lm:", err)
		os.Exit(1)
	}
}

type options struct {
	python, script, peers, family, only, profile string
	turns, threads                               int
}

// bundle is 6 layers × 256 over 8192 ids, the size of the published prototypes.
func bundle(family string) (*lm.Bundle, error) {
	cfg := lm.Config{ModelType: family, VocabSize: 8192, MaxPositions: 512, HiddenSize: 256, NumLayers: 6, NumHeads: 8}
	switch family {
	case lm.TypeGPT2:
	case lm.TypeMixtral:
		cfg.NumKVHeads, cfg.IntermediateSize, cfg.Experts, cfg.ExpertsPerTok = 4, 344, 4, 2
	default:
		cfg.NumKVHeads, cfg.IntermediateSize = 4, 688
		cfg.QKVBias = family == lm.TypeQwen2
	}
	m, err := lm.NewModel(cfg, 1)
	if err != nil {
		return nil, err
	}
	return &lm.Bundle{Name: family, Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: cfg.MaxPositions}, nil
}

func compare(w io.Writer, o options) error {
	torch.SetThreads(1)
	b, err := bundle(o.family)
	if err != nil {
		return err
	}
	defer b.Model.Close()
	dir, err := os.MkdirTemp("", "recpie-bench-lm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	model := filepath.Join(dir, o.family)
	if err := b.SaveDir(model); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, 6 layers × 256, %d ids, %d threads a side, best of %d turns\n\n| case | side | seconds | tokens/s | here/peer |\n|---|---|---|---|---|\n",
		o.family, b.Model.Cfg.VocabSize, o.threads, o.turns)
	for _, kind := range []string{"generate", "update"} {
		names := map[string][]string{"generate": {"transformers", "vllm"}, "update": {"peft"}}[kind]
		var peers []*peer
		for _, name := range names {
			if o.python == "" || !strings.Contains(","+o.peers+",", ","+name+",") {
				continue
			}
			p, err := startPeer(o, name, model)
			if err != nil {
				return err
			}
			defer p.stop()
			peers = append(peers, p)
		}
		for _, c := range cases(b, kind, o.threads) {
			if !strings.Contains(c.name, o.only) {
				continue
			}
			if err := turns(w, c, peers, o.turns); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		for _, p := range peers {
			p.stop()
		}
	}
	return nil
}

// turns lets all sides do a case in turn, after one round that does not count.
func turns(w io.Writer, c benchCase, peers []*peer, n int) error {
	here := answer{}
	there := make([]answer, len(peers))
	for turn := range n + 1 {
		a, err := c.run()
		if err != nil {
			return err
		}
		here.better(a, turn)
		for i, p := range peers {
			a, err := p.ask(c.request)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			there[i].better(a, turn)
		}
	}
	fmt.Fprintf(w, "| %s | here | %.3f | %.0f | |\n", c.name, here.Seconds, here.rate())
	for i, p := range peers {
		fmt.Fprintf(w, "| | %s | %.3f | %.0f | %.2f |\n", p.name, there[i].Seconds, there[i].rate(), here.rate()/there[i].rate())
	}
	return nil
}

// answer is one run of a case.
type answer struct {
	Seconds float64 `json:"seconds"`
	Tokens  int     `json:"tokens"`
}

func (a *answer) better(b answer, turn int) {
	if turn == 1 || turn > 1 && b.Seconds < a.Seconds {
		*a = b
	}
}

func (a answer) rate() float64 { return float64(a.Tokens) / a.Seconds }

// peer is a Python process that does the same work.
type peer struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

func startPeer(o options, kind, model string) (*peer, error) {
	cmd := exec.Command(o.python, o.script, kind, model, strconv.Itoa(o.threads))
	cmd.Stderr = io.Discard
	if os.Getenv("RECPIE_BENCH_LOG") != "" {
		cmd.Stderr = os.Stderr
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{name: kind, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	var hello struct{ Name string }
	if err := p.read(&hello); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not start (RECPIE_BENCH_LOG=1 shows what it says): %w", kind, err)
	}
	p.name = hello.Name
	return p, nil
}

func (p *peer) read(v any) error {
	if !p.out.Scan() {
		if err := p.out.Err(); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(p.out.Bytes(), v)
}

func (p *peer) ask(request any) (a answer, err error) {
	if err := json.NewEncoder(p.in).Encode(request); err != nil {
		return a, err
	}
	return a, p.read(&a)
}

func (p *peer) stop() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
