package adapters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"sync"
	"time"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// Replica is one server that serves adapters by name.
type Replica interface {
	// Load makes the server read the adapter at path, as the server sees it, and serve it under name. Loading what is loaded already is no error.
	Load(ctx context.Context, name, path string) error
	// Unload takes the adapter away. A name that is not loaded is no error.
	Unload(ctx context.Context, name string) error
	// Canary returns log-probabilities of a fixed text under the adapter, always of the same tokens.
	Canary(ctx context.Context, name string) ([]float64, error)
}

// PublishSettings say how versions are put into service.
type PublishSettings struct {
	ServerDir string        // folder of the store as the servers see it
	Tolerance float64       // nats by which replicas may differ on a canary token, 0: .05
	Cleanup   time.Duration // bound on undoing a failed publication, 0: 30 s
	// Drain returns when no request of the named version is in flight any more; nil when callers never overlap with Publish.
	Drain func(ctx context.Context, name string) error
}

// Publisher puts versions into service on every replica or on none. It is safe for concurrent use; publications come one after the other.
type Publisher struct {
	set      PublishSettings
	replicas []Replica

	publishing sync.Mutex // held for the length of a publication

	mu      sync.Mutex
	current *Version
	canary  []float64 // of the current version, on the first replica
	stale   []string  // versions out of service that some replica may still have loaded
}

// sameLogprob is the difference below which two canaries are taken for the same adapter. Different weights move a log-probability by more.
const sameLogprob = 1e-7

// tolerance is how many nats two servers may differ on a canary token: batching and precision round differently.
const tolerance = .05

// NewPublisher returns a publisher with nothing in service.
func NewPublisher(set PublishSettings, replicas []Replica) (*Publisher, error) {
	if len(replicas) == 0 {
		return nil, fault.Newf(fault.Fatal, "adapters: publish", "no replica to publish to")
	}
	if set.Tolerance == 0 {
		set.Tolerance = tolerance
	}
	if set.Cleanup == 0 {
		set.Cleanup = 30 * time.Second
	}
	return &Publisher{set: set, replicas: slices.Clone(replicas)}, nil
}

// Current returns the version in service, nil before the first.
func (p *Publisher) Current() *Version {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// Stale lists versions that are out of service but may still take memory on a replica because unloading failed. The next publication tries again.
func (p *Publisher) Stale() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.stale)
}

// Publish puts v into service: loaded on every replica, its canary finite, the same everywhere and other than that of the version before (unless both
// adapters change nothing, or are the same file), and only then made current; the old version is unloaded after its requests have drained.
// When any step before the switch fails, v is taken away again everywhere and the old version goes on serving on all replicas. An older version
// is put back by publishing it again.
func (p *Publisher) Publish(ctx context.Context, v *Version) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	old := p.Current()
	if old != nil && old.Name == v.Name {
		return nil
	}
	var canary []float64
	if v.HasAdapter() {
		var err error
		if canary, err = p.load(ctx, v, old); err != nil {
			return errors.Join(fault.New(fault.ClassOf(err), "adapters: publish "+v.Name, err), p.undo(ctx, v.Name))
		}
	}
	failpoint.Hit("adapters.publish.before-switch")
	p.mu.Lock()
	p.current, p.canary = v, canary
	p.stale = slices.DeleteFunc(p.stale, func(name string) bool { return name == v.Name })
	if old != nil && old.HasAdapter() {
		p.stale = append(p.stale, old.Name)
	}
	p.mu.Unlock()
	p.unloadStale(ctx)
	return nil
}

// load brings v to every replica and checks its canaries.
func (p *Publisher) load(ctx context.Context, v, old *Version) (first []float64, err error) {
	for i, r := range p.replicas {
		if err := r.Load(ctx, v.Name, path.Join(p.set.ServerDir, v.Name)); err != nil {
			return nil, fmt.Errorf("replica %d: load: %w", i, err)
		}
		canary, err := r.Canary(ctx, v.Name)
		if err != nil {
			return nil, fmt.Errorf("replica %d: canary: %w", i, err)
		}
		if err := finite(canary); err != nil {
			return nil, fmt.Errorf("replica %d: canary: %w", i, err)
		}
		if i == 0 {
			first = canary
		}
		if d := distance(first, canary); d > p.set.Tolerance {
			return nil, fault.Newf(fault.Endpoint, "", "replica %d: the canary is %.4g nats off that of replica 0, %.4g are borne: it serves something else", i, d, p.set.Tolerance)
		}
	}
	p.mu.Lock()
	before := p.canary
	p.mu.Unlock()
	changed := old != nil && old.HasAdapter() && old.Files[WeightsFile] != v.Files[WeightsFile] && !(old.ZeroB && v.ZeroB)
	if changed && distance(before, first) < sameLogprob {
		return nil, fault.WithHint(fault.Newf(fault.Endpoint, "", "the canary is that of %s although the weights differ: the server did not load the new ones", old.Name),
			"the server must see the store under the configured path, and load each version under its own name")
	}
	return first, nil
}

// undo takes a version away from every replica after a failure, also when ctx is done.
func (p *Publisher) undo(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.set.Cleanup)
	defer cancel()
	var errs []error
	for i, r := range p.replicas {
		if err := r.Unload(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("replica %d: unload %s: %w", i, name, err))
		}
	}
	if len(errs) > 0 {
		p.mu.Lock()
		p.stale = append(p.stale, name)
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

// unloadStale drains and unloads what is out of service. What fails stays on the list: memory on a server is no reason to fail a publication.
func (p *Publisher) unloadStale(ctx context.Context) {
	var left []string
	for _, name := range p.Stale() {
		if p.set.Drain != nil && p.set.Drain(ctx, name) != nil {
			left = append(left, name)
			continue
		}
		failed := 0
		for _, r := range p.replicas {
			if r.Unload(ctx, name) != nil {
				failed++
			}
		}
		if failed > 0 {
			left = append(left, name)
		}
	}
	p.mu.Lock()
	p.stale = left
	p.mu.Unlock()
}

// distance returns the largest difference of two canaries, infinite when their lengths differ.
func distance(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	d := 0.0
	for i := range a {
		d = math.Max(d, math.Abs(a[i]-b[i]))
	}
	return d
}

// Resume takes up from another process: v was put into service by it. When replicas serve it no longer, the next publication compares with nothing.
func (p *Publisher) Resume(ctx context.Context, v *Version) {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	var canary []float64
	if v.HasAdapter() {
		if got, err := p.replicas[0].Canary(ctx, v.Name); err == nil && finite(got) == nil {
			canary = got
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current, p.canary = v, canary
}
