package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"recpie/internal/lm"
)

// memory prints what the process holds while it generates and trains: after the first tenth of the work it should not grow.
func memory(w io.Writer, family string, threads int) error {
	b, err := bundle(family)
	if err != nil {
		return err
	}
	defer b.Model.Close()
	rng := rand.New(rand.NewPCG(3, 3))
	fmt.Fprintf(w, "%s, resident MiB\n\n| work | 10 %% | 40 %% | 70 %% | 100 %% |\n|---|---|---|---|---|\n", family)
	e := lm.NewEngine(b, lm.EngineOptions{Workers: threads, KVBytes: 64 << 20})
	defer e.Close()
	const generations, updates, together = 10_000, 2_000, 100
	line(w, "10,000 generations of 40 + 8 tokens", generations/together, func(int) error {
		errs := make([]error, together)
		var wg sync.WaitGroup
		for i := range errs {
			r := &lm.GenRequest{Prompt: ids(rng, b, 40), MaxTokens: 8, Temperature: 1, IgnoreEOS: true, Logprobs: 0, PromptLogprobs: -1}
			wg.Go(func() { _, errs[i] = e.Generate(context.Background(), r) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	tr, err := lm.NewTrainer(b, lm.LoRAConfig{Rank: 8, Attn: true}, lm.TrainerOptions{Workers: threads})
	if err != nil {
		return err
	}
	defer tr.Close()
	line(w, "2,000 updates on 4 texts of 32 tokens", updates, func(n int) error {
		data := make([]lm.Datum, 4)
		for i := range data {
			d := lm.Datum{Tokens: ids(rng, b, 32+n%5), EmbedPos: []int64{1}, Embeds: make([]float32, b.Model.Cfg.HiddenSize)}
			for range d.Tokens {
				d.Targets, d.Logprobs, d.Advantages = append(d.Targets, 5), append(d.Logprobs, -9), append(d.Advantages, float32(rng.NormFloat64()))
			}
			data[i] = d
		}
		if _, err := tr.ForwardBackward(context.Background(), data, "ppo", nil, false); err != nil {
			return err
		}
		_, err := tr.OptimStep(lm.AdamParams{LearningRate: 1e-6, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8})
		return err
	})
	return nil
}

func line(w io.Writer, what string, n int, do func(int) error) {
	fmt.Fprintf(w, "| %s |", what)
	for i := range n {
		if err := do(i); err != nil {
			fmt.Fprintf(w, " %v |", err)
			return
		}
		if (i+1)*10%n == 0 && (i+1)*10/n%3 == 1 {
			debug.FreeOSMemory()
			fmt.Fprintf(w, " %d |", resident())
		}
	}
	fmt.Fprintln(w)
}

// resident is what the process holds, in MiB; 0 where the system does not say.
func resident() int {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(data)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.Atoi(f[1])
			return kib >> 10
		}
	}
	return 0
}
