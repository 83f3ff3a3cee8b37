package adapters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"sync"

	"recpie/internal/fault"
)

// Assurance keeps a version in service on servers that others use too, as a batch with many workers does. Unlike Publisher it takes
// nothing away: what it finds loaded may be what another worker asks.
type Assurance struct {
	Version   *Version
	ServerDir string  // folder of the store as the servers see it
	Base      string  // served name of the base model: the version must answer otherwise, or the server has not read its files
	Tolerance float64 // nats by which servers of one kind may differ on a canary token, 0: .05

	mu     sync.Mutex
	canary map[string][]float64 // by kind of server
}

// Expect says what the canaries are, by kind of server, as another process has seen them. Kinds that are not named are set by the first
// server of theirs.
func (a *Assurance) Expect(canaries map[string][]float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.canary = maps.Clone(canaries)
}

// Canaries returns what the version answers, by kind of server.
func (a *Assurance) Canaries() map[string][]float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.canary)
}

// Assure makes a server serve the version and holds it to the canary: finite, other than the base model's unless the adapter changes
// nothing, and that of every other server of its kind. It is for the beginning and for a server that has forgotten the version.
func (a *Assurance) Assure(ctx context.Context, kind string, r Replica) error {
	if err := r.Load(ctx, a.Version.Name, path.Join(a.ServerDir, a.Version.Name)); err != nil {
		return fmt.Errorf("load %s: %w", a.Version.Name, err)
	}
	got, err := r.Canary(ctx, a.Version.Name)
	if err == nil {
		err = finite(got)
	}
	if err != nil {
		return fmt.Errorf("canary of %s: %w", a.Version.Name, err)
	}
	if !a.Version.ZeroB {
		base, err := r.Canary(ctx, a.Base)
		if err != nil {
			return fmt.Errorf("canary of %s: %w", a.Base, err)
		}
		if distance(base, got) < sameLogprob {
			return fault.WithHint(fault.Newf(fault.Endpoint, "", "the canary of %s is that of the base model: the server does not use its weights", a.Version.Name),
				"the server must see the folder of versions under the configured path (publish.server_dir)")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	want, known := a.canary[kind]
	if !known {
		if a.canary == nil {
			a.canary = map[string][]float64{}
		}
		a.canary[kind] = got
		return nil
	}
	borne := a.Tolerance
	if borne == 0 {
		borne = tolerance
	}
	if d := distance(want, got); d > borne {
		return fault.Newf(fault.Endpoint, "", "the canary of %s is %.4g nats off that of the other servers, %.4g are borne: this one serves something else", a.Version.Name, d, borne)
	}
	return nil
}

// finite demands log-probabilities.
func finite(canary []float64) error {
	if len(canary) == 0 {
		return fault.New(fault.Endpoint, "", errors.New("it is empty"))
	}
	for k, lp := range canary {
		if math.IsNaN(lp) || math.IsInf(lp, 0) {
			return fault.Newf(fault.Endpoint, "", "token %d has log-probability %v", k, lp)
		}
	}
	return nil
}
