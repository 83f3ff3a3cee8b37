package adapters

import (
	"context"
	"fmt"
	"sync"

	"recpie/internal/fault"
)

// Held is what a server's base model answered when a run began. A server that was away is held to it before it is asked again: it may
// have been started with other weights under the same name, and its answers would be stored as those of the first.
type Held struct {
	Canary    func(ctx context.Context) ([]float64, error) // log-probabilities of a fixed text under the base model
	Tolerance float64                                      // nats by which a canary token may differ, 0: .05

	mu    sync.Mutex
	first []float64 // nil: not noted
}

// Note asks for the canary. A server that cannot score a text is held to nothing.
func (h *Held) Note(ctx context.Context) {
	first, err := h.Canary(ctx)
	if err != nil || finite(first) != nil {
		return
	}
	h.mu.Lock()
	h.first = first
	h.mu.Unlock()
}

// Same asks again and fails when the answer is not the one that was noted.
func (h *Held) Same(ctx context.Context) error {
	h.mu.Lock()
	first := h.first
	h.mu.Unlock()
	if first == nil {
		return nil
	}
	got, err := h.Canary(ctx)
	if err == nil {
		err = finite(got)
	}
	if err != nil {
		return fmt.Errorf("canary of the base model: %w", err)
	}
	borne := h.Tolerance
	if borne == 0 {
		borne = tolerance
	}
	if d := distance(first, got); d > borne {
		return fault.WithHint(fault.Newf(fault.Endpoint, "", "the canary of the base model is %.4g nats off what it was before the server was away, %.4g are borne: it serves other weights under the same name", d, borne),
			"start it with the weights it had, or serve the new ones under a name of their own and begin a new batch")
	}
	return nil
}
