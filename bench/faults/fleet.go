package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/faultproxy"
	"recpie/internal/faultproxy/fakefleet"
)

// fleet is servers behind proxies and a pool of clients for them, as a run sets them up.
type fleet struct {
	proxies []*faultproxy.Proxy
	clients []*vllm.Client
	pool    *pool.Pool[*vllm.Client]
	done    atomic.Int64 // rows
	looks   atomic.Int64 // requests that asked for health and queues
}

func newFleet(s settings) (f *fleet, err error) {
	f = &fleet{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	var eps []pool.Endpoint[*vllm.Client]
	for i := range s.servers {
		proxy, err := faultproxy.New(fakefleet.New(fakefleet.Config{Service: s.service, Capacity: s.capacity}), uint64(i+1))
		if err != nil {
			return f, err
		}
		f.proxies = append(f.proxies, proxy)
		c, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: proxy.URL(), Attempts: 1, MaxConcurrent: 4 * s.capacity, Idle: 5 * time.Second, MaxBody: 8 << 20}, Model: "tiny"})
		if err != nil {
			return f, err
		}
		f.clients = append(f.clients, c)
		eps = append(eps, pool.Endpoint[*vllm.Client]{Name: proxy.URL(), Client: c, Probe: func(ctx context.Context) error {
			f.looks.Add(1)
			return c.Health(ctx)
		}, Load: func(ctx context.Context) (pool.Load, error) {
			f.looks.Add(1)
			m, err := c.Metrics(ctx)
			return pool.Load{Waiting: m.Waiting, Running: m.Running, KV: m.KVUsage}, err
		}})
	}
	f.pool, err = pool.New(pool.Settings{MaxInFlight: 4 * s.capacity}, eps)
	return f, err
}

// close ends everything and returns how many connections the servers still see after the clients are closed.
func (f *fleet) close() (connections int) {
	if f.pool != nil {
		f.pool.Close()
	}
	for _, c := range f.clients {
		c.Close()
	}
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		connections = 0
		for _, p := range f.proxies {
			connections += p.Connections()
		}
		if connections == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, p := range f.proxies {
		p.Close()
	}
	return connections
}

// requests is how many requests for rows the servers have seen.
func (f *fleet) requests() int64 {
	n := -f.looks.Load()
	for _, p := range f.proxies {
		n += p.Requests()
	}
	return n
}

// row asks for one row and returns its text. Four rows are of one user.
func (f *fleet) row(ctx context.Context, i int) (text string, err error) {
	req := vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, "row "+strconv.Itoa(i))}, Params: vllm.Params{MaxTokens: 8, Logprobs: true}}
	err = f.pool.Do(ctx, pool.Call{Op: "row", Key: strconv.Itoa(i / 4), Tokens: 8}, func(ctx context.Context, c *vllm.Client) error {
		r, err := c.Chat(ctx, req)
		if err == nil {
			text = r.Choices[0].Text
		}
		return err
	})
	if err == nil {
		f.done.Add(1)
	}
	return text, err
}

// rows asks for n rows once each, from so many callers, and returns what they became and how long it took.
func (f *fleet) rows(n, callers int) ([]string, time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Minute, fmt.Errorf("%d rows took more than 5 min", n))
	defer cancel()
	out, errs := make([]string, n), make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				out[i], errs[i] = f.row(ctx, i)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	for i, err := range errs {
		if err != nil {
			return nil, took, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return out, took, nil
}

// load keeps callers busy until stop is called, which returns the first error of a row.
func (f *fleet) load(callers int) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, callers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := f.row(ctx, int(next.Add(1))); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	return func() error {
		cancel()
		wg.Wait()
		select {
		case err := <-failed:
			return err
		default:
			return nil
		}
	}
}

// rate is rows per second in the next d.
func (f *fleet) rate(d time.Duration) float64 {
	begin, before := time.Now(), f.done.Load()
	time.Sleep(d)
	return float64(f.done.Load()-before) / time.Since(begin).Seconds()
}
