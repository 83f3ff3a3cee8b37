package pool

import "time"

// EndpointStats is what a pool knows of an endpoint. Counts are since the start.
type EndpointStats struct {
	Name      string
	State     State
	InFlight  int
	Limit     int           // calls in flight allowed now
	Calls     int64         // tries sent there
	Retries   int64         // of them for calls that had failed before
	Spills    int64         // calls whose home it is that were sent elsewhere
	Latency   time.Duration // of the last answers, exponentially weighted; failures apart
	Baseline  time.Duration // its long-run value
	Item      int64         // failures by their class
	Fatal     int64
	Endpoint  int64
	Transient int64
	Abandoned int64 // tries whose caller left
	LastError string
	Load      Load // the server's own metrics; zero when unknown

	longest float64 // seconds that an answer took, slowly forgotten
}

func (s *EndpointStats) count(o outcome) {
	switch o {
	case left:
		s.Abandoned++
	case rejected:
		s.Item++
	case refused:
		s.Transient++
	case stopped:
		s.Fatal++
	default:
		s.Endpoint++
	}
}

// shown is the endpoint's state for people.
func (e *endpoint) shown(now time.Time) State {
	if e.state != Open && now.Before(e.rest) {
		return Resting
	}
	return e.state
}

// Stats returns a copy of what is known, in the endpoints' order.
func (p *Pool[C]) Stats() []EndpointStats {
	c := p.core
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	out := make([]EndpointStats, len(c.endpoints))
	for i, e := range c.endpoints {
		s := e.stats
		s.Name, s.State, s.InFlight, s.Limit, s.Load = e.name, e.shown(now), e.inFlight, e.limiter.limit, e.server
		s.Latency = time.Duration(e.limiter.short * float64(time.Second))
		s.Baseline = time.Duration(e.limiter.base * float64(time.Second))
		if e.lastErr != nil {
			s.LastError = e.lastErr.Error()
		}
		out[i] = s
	}
	return out
}
