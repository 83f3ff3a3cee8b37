package fakefleet

import (
	"context"
	"slices"
	"sync"
)

// gate lets so many requests in at once; the others wait in order.
type gate struct {
	mu       sync.Mutex
	capacity int // 0: any number
	running  int
	waiting  []chan struct{}
}

// enter waits for a place. It returns false when ctx ended first.
func (g *gate) enter(ctx context.Context) bool {
	g.mu.Lock()
	if g.capacity == 0 || g.running < g.capacity {
		g.running++
		g.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.waiting, turn)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // the place came in the same moment
		g.leave()
	}
	return false
}

// leave gives the place back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.admit()
}

func (g *gate) resize(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.capacity = n
	g.admit()
}

func (g *gate) admit() {
	for len(g.waiting) > 0 && (g.capacity == 0 || g.running < g.capacity) {
		g.running++
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}

func (g *gate) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.capacity
}

func (g *gate) load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, len(g.waiting)
}
