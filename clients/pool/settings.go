package pool

import (
	"time"

	"recpie/internal/fault"
)

// Settings are the rules of a pool. Zero fields take the defaults named beside them.
type Settings struct {
	MaxInFlight int           // most calls in flight at one endpoint: 64
	Fixed       bool          // MaxInFlight calls at once from the start, whatever the latency: for a server that batches all it gets and queues the rest
	RequestRate float64       // requests per second over the whole pool, retries included; 0: no cap
	TokenRate   float64       // Call.Tokens per second over the whole pool, retries included; 0: no cap
	Attempt     time.Duration // one try of a call: 2 min
	Attempts    int           // failed tries after which a call is given up while others succeed; refusals (transient) do not count: 10
	RetryShare  float64       // retries allowed per call, on average, besides a small floor: 0.3
	Failures    int           // endpoint errors in a row that open the breaker; a server that spoils one answer in five is still of use: 8
	Cooldown    time.Duration // first pause of an open endpoint, doubling: 1 s
	CooldownMax time.Duration // longest such pause, so that a recovered server is soon back: 10 s
	RestMax     time.Duration // most that a server's Retry-After is honoured: 30 s
	ProbeTime   time.Duration // deadline of one Probe or Load: 5 s
	Poll        time.Duration // between two looks at an endpoint's Load: 1 s
}

// withDefaults fills the zero fields and refuses what makes no sense.
func (s Settings) withDefaults() (Settings, error) {
	def(&s.MaxInFlight, 64)
	def(&s.Attempt, 2*time.Minute)
	def(&s.Attempts, 10)
	def(&s.RetryShare, 0.3)
	def(&s.Failures, 8)
	def(&s.Cooldown, time.Second)
	def(&s.CooldownMax, 10*time.Second)
	def(&s.RestMax, 30*time.Second)
	def(&s.ProbeTime, 5*time.Second)
	def(&s.Poll, time.Second)
	for _, d := range []time.Duration{s.Attempt, s.Cooldown, s.CooldownMax, s.RestMax, s.ProbeTime, s.Poll} {
		if d < 0 {
			return s, fault.Newf(fault.Fatal, "pool", "a duration is negative: %v", d)
		}
	}
	if s.MaxInFlight < 1 || s.Attempts < 1 || s.Failures < 1 {
		return s, fault.Newf(fault.Fatal, "pool", "max in flight %d, attempts %d and failures %d must be positive", s.MaxInFlight, s.Attempts, s.Failures)
	}
	// Written so that NaN is refused too.
	if !(s.RequestRate >= 0) || !(s.TokenRate >= 0) || !(s.RetryShare >= 0) {
		return s, fault.Newf(fault.Fatal, "pool", "request rate %v, token rate %v and retry share %v must not be negative", s.RequestRate, s.TokenRate, s.RetryShare)
	}
	return s, nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
