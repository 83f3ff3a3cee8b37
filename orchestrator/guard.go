package orchestrator

import (
	"context"
	"sync"
	"time"
)

// Guard puts a version of the policy back on a server that does not serve it any more, as after a restart: servers forget what they
// were told while they ran. The zero value guards nothing.
type Guard struct {
	Model  string                          // served name of the version
	Assure func(ctx context.Context) error // makes the server serve it and proves it

	mu   sync.Mutex
	turn chan struct{} // held while the server is assured
	last time.Time     // when it was last
}

func (g *Guard) keeps(model string) bool { return g != nil && g.Assure != nil && g.Model == model }

// restore assures the server once for all requests that found the version missing meanwhile.
func (g *Guard) restore(ctx context.Context) error {
	asked := time.Now()
	g.mu.Lock()
	if g.turn == nil {
		g.turn = make(chan struct{}, 1)
	}
	g.mu.Unlock()
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-g.turn }()
	if g.last.After(asked) {
		return nil
	}
	if err := g.Assure(ctx); err != nil {
		return err
	}
	g.last = time.Now()
	return nil
}
