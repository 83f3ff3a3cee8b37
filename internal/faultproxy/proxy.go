package faultproxy

import (
	"bytes"
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a server on a loopback port of its own that passes requests to a handler, or spoils them. It is safe for concurrent use.
// A new one spoils nothing.
type Proxy struct {
	backend  http.Handler
	seed     uint64
	socket   socket
	requests atomic.Int64
	handlers sync.WaitGroup

	mu     sync.Mutex // guards what follows
	script []Fault
	always *Fault
	share  float64
	faults []Fault
	streak map[uint64]int // by request: faults in a row
	hits   map[string]int64
	slow   float64
	hung   bool
	closed bool
}

// consecutive is how many faults in a row Rate lets one request meet, so that a client with a third attempt always succeeds.
const consecutive = 2

// New starts a proxy before backend. The seed decides what Rate draws. Close ends it.
func New(backend http.Handler, seed uint64) (*Proxy, error) {
	p := &Proxy{backend: backend, seed: seed, streak: map[uint64]int{}, hits: map[string]int64{}, slow: 1}
	p.socket.handler = p
	p.socket.stalled = func() { p.count(TLSStall().Name) }
	if err := p.socket.open(); err != nil {
		return nil, err
	}
	return p, nil
}

// URL is the proxy's address: http, loopback, a port that stays the same for the proxy's life.
func (p *Proxy) URL() string { return "http://" + p.socket.addr }

// URLFor is the address at which a fault can be met: https for TLSStall, URL for the others.
func (p *Proxy) URLFor(f Fault) string {
	if f.tls {
		return "https://" + p.socket.addr
	}
	return p.URL()
}

// Clean spoils nothing from now on. A server that is killed stays so.
func (p *Proxy) Clean() error { return p.plan(func() {}, false) }

// Always spoils every request.
func (p *Proxy) Always(f Fault) error { return p.plan(func() { p.always = &f }, f.refuse) }

// Rate spoils a share of the requests, each by a fault drawn from those given, but never more than two times in a row the same request
// (method, path and body).
func (p *Proxy) Rate(share float64, faults ...Fault) error {
	return p.plan(func() { p.share, p.faults = share, slices.Clone(faults) }, false)
}

// Script spoils the next requests one by one, in the order they arrive; the zero Fault lets one pass. What comes after passes.
func (p *Proxy) Script(faults ...Fault) error {
	return p.plan(func() { p.script = slices.Clone(faults) }, false)
}

func (p *Proxy) plan(set func(), refuse bool) error {
	p.mu.Lock()
	p.script, p.always, p.share, p.faults = nil, nil, 0, nil
	clear(p.streak)
	set()
	p.mu.Unlock()
	if refuse {
		return p.socket.shut(byFault)
	}
	return p.socket.reopen(byFault)
}

// Kill ends the server as the death of its process would: every connection is closed, new ones are refused. The port is kept.
func (p *Proxy) Kill() error { return p.socket.shut(byKill) }

// Hang lets every request wait without an answer, until Revive or until its client leaves.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung = true
}

// Slow makes answers take factor times as long as the backend needs for them; 1 ends it.
func (p *Proxy) Slow(factor float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = factor
}

// Revive ends Kill, Hang and Slow. Requests that hang keep hanging, as they would if a server was restarted behind a balancer.
func (p *Proxy) Revive() error {
	p.mu.Lock()
	p.hung, p.slow = false, 1
	p.mu.Unlock()
	return p.socket.reopen(byKill)
}

// Requests is how many requests arrived, spoiled or not.
func (p *Proxy) Requests() int64 { return p.requests.Load() }

// Faults is how often each fault was served, by name.
func (p *Proxy) Faults() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.hits)
}

// Connections is how many connections are open.
func (p *Proxy) Connections() int { return p.socket.connections() }

// Close ends the proxy and waits for its handlers.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.socket.close()
	p.handlers.Wait()
}

func (p *Proxy) count(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[name]++
}

// pick decides about the request of a number.
func (p *Proxy) pick(number uint64, key uint64) (f Fault, slow float64, hung bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hung:
	case len(p.script) > 0:
		f, p.script = p.script[0], p.script[1:]
	case p.always != nil:
		f = *p.always
	case len(p.faults) > 0:
		draw := mix(p.seed ^ mix(number))
		if float64(draw>>11)/(1<<53) < p.share && p.streak[key] < consecutive {
			p.streak[key]++
			f = p.faults[mix(draw)%uint64(len(p.faults))]
		} else {
			delete(p.streak, key)
		}
	}
	return f, p.slow, p.hung
}

// mix is splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// enter lets Close wait for a handler, false when Close was called before.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.handlers.Add(1)
	}
	return !p.closed
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		return
	}
	defer p.handlers.Done()
	number := uint64(p.requests.Add(1))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client left
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := fnv.New64a()
	_, _ = io.WriteString(h, r.Method+" "+r.URL.Path+"\n")
	_, _ = h.Write(body)
	f, slow, hung := p.pick(number, h.Sum64())
	x := &exchange{p: p, w: w, r: r}
	switch {
	case hung:
		<-r.Context().Done()
	case redirected(r):
		redirect(x)
	case f.do != nil:
		if !f.onlyChoices || x.hasChoices() {
			p.count(f.Name)
			f.do(x)
			return
		}
		x.answer().send(w)
	case slow > 1:
		start := time.Now()
		a := x.answer()
		if x.wait(time.Duration(float64(time.Since(start)) * (slow - 1))) {
			a.send(w)
		}
	default:
		p.backend.ServeHTTP(w, r)
	}
}
