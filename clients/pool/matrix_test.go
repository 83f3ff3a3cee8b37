package pool_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/faultproxy"
	"recpie/internal/faultproxy/fakefleet"
)

const rowTokens = 8

// rows asks for n explanations, each once, from so many workers, and returns what each row became.
func rows(t *testing.T, p *pool.Pool[*vllm.Client], n, workers int) ([]string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := make([]string, n)
	var wg sync.WaitGroup
	next := make(chan int)
	var done atomic.Int64
	var most time.Duration // until 95% were done: what is left then waits for few
	begun := time.Now()
	for range workers {
		wg.Go(func() {
			for i := range next {
				req := vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, fmt.Sprint("row ", i))}, Params: vllm.Params{MaxTokens: rowTokens, Logprobs: true}}
				err := p.Do(ctx, pool.Call{Op: "row", Key: fmt.Sprint(i / 4)}, func(ctx context.Context, c *vllm.Client) error {
					r, err := c.Chat(ctx, req)
					if err == nil {
						out[i] = r.Choices[0].Text
					}
					return err
				})
				if done.Add(1) == int64(n)*95/100 {
					most = time.Since(begun)
				}
				if err != nil {
					t.Errorf("row %d: %v (%v)", i, err, fault.ClassOf(err))
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	t.Logf("%d rows: 95%% in %v, all in %v", n, most, time.Since(begun))
	return out, most
}

func files(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(d)
}

// TestFaultMatrix sends rows to four real servers behind proxies that spoil a fifth of all requests, each by another fault: every row
// ends with the answer of a clean run, at 1.3 requests per row at most, and nothing is left behind.
func TestFaultMatrix(t *testing.T) {
	const n, workers, servers = 2000, 64, 4
	log.SetOutput(io.Discard) // net/http tells of each answer that nobody asked for
	defer log.SetOutput(os.Stderr)
	before := files(t)
	var proxies []*faultproxy.Proxy
	var eps []pool.Endpoint[*vllm.Client]
	for i := range servers {
		proxy, err := faultproxy.New(fakefleet.New(fakefleet.Config{Service: 40 * time.Millisecond}), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		c, err := vllm.New(vllm.Config{Settings: transport.Settings{
			BaseURL: proxy.URL(), Attempts: 1, Headers: 5 * time.Second, Idle: time.Second, MaxBody: 8 << 20,
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		proxies = append(proxies, proxy)
		eps = append(eps, pool.Endpoint[*vllm.Client]{Name: proxy.URL(), Client: c})
	}
	p, err := pool.New(pool.Settings{Attempt: 10 * time.Second}, eps)
	if err != nil {
		t.Fatal(err)
	}
	want, clean := rows(t, p, n, workers)
	requests := func() (sum int64) {
		for _, proxy := range proxies {
			sum += proxy.Requests()
		}
		return sum
	}
	if got := requests(); got != n {
		t.Errorf("%d requests for %d rows without a fault", got, n)
	}
	for _, proxy := range proxies {
		if err := proxy.Rate(0.2, faultproxy.Passing()...); err != nil {
			t.Fatal(err)
		}
	}
	got, spoiled := rows(t, p, n, workers)
	if per := float64(requests()-n) / n; per > 1.3 || per < 1.1 {
		t.Errorf("%.3f requests per row with a fifth of them spoiled", per)
	} else {
		t.Logf("%.3f requests per row; %v clean, %v spoiled: %.0f%% of the throughput", per, clean, spoiled, 100*clean.Seconds()/spoiled.Seconds())
	}
	for i := range want {
		if got[i] == "" || got[i] != want[i] {
			t.Errorf("row %d: %q, %q in the clean run", i, got[i], want[i])
		}
	}
	for _, st := range p.Stats() {
		t.Logf("%+v", st)
		if st.InFlight != 0 {
			t.Errorf("left in flight: %+v", st)
		}
	}
	p.Close()
	for i, ep := range eps {
		ep.Client.Close()
		proxies[i].Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for files(t) > before+2 && time.Now().Before(deadline) { // sockets close a moment later; two are the poller's of the runtime
		time.Sleep(10 * time.Millisecond)
	}
	if after := files(t); after > before+2 {
		t.Errorf("%d files open, %d before", after, before)
	}
}

// TestServerStartedAgain: a server that comes back without the adapter loses no row: its rows are served elsewhere, and it is used again
// once it has the adapter.
func TestServerStartedAgain(t *testing.T) {
	servers := []*fakefleet.Server{fakefleet.New(fakefleet.Config{}), fakefleet.New(fakefleet.Config{})}
	var eps []pool.Endpoint[*vllm.Client]
	for i, s := range servers {
		proxy, err := faultproxy.New(s, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		c, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: proxy.URL(), Attempts: 1}, Model: "tiny"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.LoadAdapter(t.Context(), "ad", "/p/ad"); err != nil {
			t.Fatal(err)
		}
		eps = append(eps, pool.Endpoint[*vllm.Client]{Name: proxy.URL(), Client: c, Probe: c.Health})
	}
	p, err := pool.New(pool.Settings{Failures: 2, Cooldown: 20 * time.Millisecond, CooldownMax: 50 * time.Millisecond}, eps)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ask := func(from int) {
		t.Helper()
		for i := range 40 {
			err := p.Do(t.Context(), pool.Call{Op: "row", Key: fmt.Sprint(from + i)}, func(ctx context.Context, c *vllm.Client) error {
				r, err := c.Chat(ctx, vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, fmt.Sprint("row ", i))}, Params: vllm.Params{Model: "ad", MaxTokens: rowTokens}})
				if err == nil && r.Model != "ad" {
					return fault.Newf(fault.Fatal, "row", "answered by %s", r.Model)
				}
				return err
			})
			if err != nil {
				t.Fatalf("row %d: %v (%v)", from+i, err, fault.ClassOf(err))
			}
		}
	}
	ask(0)
	servers[0].Restart(0)
	ask(40)
	if st := p.Stats()[0]; st.Endpoint == 0 || st.Item != 0 {
		t.Errorf("%+v", st)
	}
	if err := eps[0].Client.LoadAdapter(t.Context(), "ad", "/p/ad"); err != nil {
		t.Fatal(err)
	}
	before := servers[0].Stats().Answered
	for deadline := time.Now().Add(30 * time.Second); servers[0].Stats().Answered == before; {
		if ask(80); time.Now().After(deadline) {
			t.Fatalf("the server is not used again: %+v", p.Stats()[0])
		}
	}
}
