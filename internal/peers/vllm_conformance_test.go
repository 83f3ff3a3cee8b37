//go:build peers

package peers

import (
	"context"
	"path/filepath"
	"testing"

	"recpie/orchestrator"
	"recpie/orchestrator/servertest"
)

// A real vLLM keeps what every inference server must, with an adapter and soft rows in mid-template.
func TestVLLMLlamaConformance(t *testing.T) {
	servertest.Run(t, func(t *testing.T) servertest.Server {
		c, models, e := llama(t)
		const name = "peers-conformance"
		if err := c.LoadAdapter(t.Context(), name, filepath.Join(models, "lora-a")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.UnloadAdapter(context.Background(), name) })
		g := orchestrator.VLLM{Client: c}
		return servertest.Server{Model: g, Scorer: g, Base: "llama", MaxLen: 512, Adapter: name, Hidden: e.hidden, Vocabulary: e.vocab(), Tolerance: 1e-3}
	})
}

// So does one without LoRA.
func TestVLLMGPT2Conformance(t *testing.T) {
	servertest.Run(t, func(t *testing.T) servertest.Server {
		real, _, e := both(t)
		g := orchestrator.VLLM{Client: real}
		return servertest.Server{Model: g, Scorer: g, Base: "gpt2", MaxLen: 512, Hidden: e.hidden, Vocabulary: e.vocab(), Tolerance: 1e-3}
	})
}
