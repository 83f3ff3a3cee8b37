package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
)

const (
	prompt   = "The user liked five films about the sea and none about space. Would the user like a film about a lighthouse?"
	model    = "bench"
	maxToken = 32
	answer   = `{"id":"chatcmpl-1","object":"chat.completion","created":1795388479,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"The user would like it for the sea around the lighthouse."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12}}`
)

// request is what all clients of this side send.
var request = vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, prompt)}, Params: vllm.Params{MaxTokens: maxToken, TextOnly: true}}

// serveInstantly answers every request at once. It prints its address and serves until it is killed.
func serveInstantly(w io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "http://%s\n", l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
}

// beClient sends requests for a while, measures its own CPU time and prints the result.
func beClient(w io.Writer, name, url, profile string, seconds float64, concurrency int) error {
	ask, done, err := asker(name, url, concurrency)
	if err != nil {
		return err
	}
	defer done()
	if _, err := loop(ask, time.Second, concurrency); err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	before, err := cpuTime()
	if err != nil {
		return err
	}
	start := time.Now()
	n, err := loop(ask, time.Duration(seconds*float64(time.Second)), concurrency)
	if err != nil {
		return err
	}
	after, err := cpuTime()
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(result{n, time.Since(start).Seconds(), (after - before).Seconds()})
}

// loop has some senders ask one after the other until the time is over.
func loop(ask func() error, d time.Duration, concurrency int) (int, error) {
	var wg sync.WaitGroup
	var n atomic.Int64
	failed := make(chan error, concurrency)
	end := time.Now().Add(d)
	for range concurrency {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := ask(); err != nil {
					failed <- err
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return int(n.Load()), nil
	}
}

// asker returns a function that sends one request by the named client.
func asker(name, url string, concurrency int) (ask func() error, done func(), err error) {
	ctx := context.Background()
	if name == "bare" {
		return bare(url, concurrency)
	}
	cl, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: url, Attempts: 1, MaxConcurrent: concurrency}, Model: model})
	if err != nil {
		return nil, nil, err
	}
	switch name {
	case "vllm":
		return func() error {
			_, err := cl.Chat(ctx, request)
			return err
		}, cl.Close, nil
	case "pool", "pool64":
		p, err := pool.New(pool.Settings{MaxInFlight: concurrency, Fixed: name == "pool64"}, []pool.Endpoint[*vllm.Client]{{Name: url, Client: cl}})
		if err != nil {
			return nil, nil, err
		}
		call := pool.Call{Op: "chat", Key: "user", Tokens: maxToken}
		return func() error {
			return p.Do(ctx, call, func(ctx context.Context, c *vllm.Client) error {
				_, err := c.Chat(ctx, request)
				return err
			})
		}, func() { p.Close(); cl.Close() }, nil
	}
	return nil, nil, errors.New("there is no client " + name)
}

// bare is the least that a request can cost with net/http: the body, that of clients/vllm, is ready, the answer is read and thrown away.
func bare(url string, concurrency int) (ask func() error, done func(), err error) {
	var sent capture
	cl, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: url, Attempts: 1, RoundTripper: &sent}, Model: model})
	if err != nil {
		return nil, nil, err
	}
	if _, err := cl.Chat(context.Background(), request); err != nil {
		return nil, nil, err
	}
	tr := &http.Transport{MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency}
	hc := &http.Client{Transport: tr}
	return func() error {
		resp, err := hc.Post(url+"/v1/chat/completions", "application/json", bytes.NewReader(sent))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}, tr.CloseIdleConnections, nil
}

// capture keeps the body of a request and answers it.
type capture []byte

// RoundTrip answers.
func (c *capture) RoundTrip(req *http.Request) (_ *http.Response, err error) {
	*c, err = io.ReadAll(req.Body)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer))}, err
}
