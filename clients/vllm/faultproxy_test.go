package vllm_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/faultproxy"
	"recpie/internal/faultproxy/fakefleet"
)

const canary = "very-secret-key"

// behind makes a client of a fake server behind a proxy, with short deadlines where the fault lasts until one.
func behind(t *testing.T, f faultproxy.Fault, attempts int) (*faultproxy.Proxy, *vllm.Client) {
	t.Helper()
	p, err := faultproxy.New(fakefleet.New(fakefleet.Config{Key: canary}), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := transport.SecretFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := transport.Settings{BaseURL: p.URLFor(f), Key: key, Attempts: attempts, BackoffFirst: time.Millisecond, BackoffMax: 20 * time.Millisecond, MaxBody: 1 << 20}
	if f.Waits {
		s.Dial, s.Headers, s.Idle, s.Total = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond
	}
	c, err := vllm.New(vllm.Config{Settings: s, Model: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return p, c
}

func always(t *testing.T, p *faultproxy.Proxy, f faultproxy.Fault) {
	t.Helper()
	if err := p.Always(f); err != nil {
		t.Fatal(err)
	}
}

// mute keeps net/http from printing what it finds on idle connections.
func mute(t *testing.T) {
	was := log.Writer()
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(was) })
}

var hello = []vllm.Message{vllm.User(vllm.Soft{}, "hello there")}

func chat(p vllm.Params) func(context.Context, *vllm.Client) (any, error) {
	p.MaxTokens, p.Temperature = 8, 1
	return func(ctx context.Context, c *vllm.Client) (any, error) {
		return c.Chat(ctx, vllm.ChatRequest{Messages: hello, Params: p})
	}
}

// calls are the ways of asking.
var calls = []struct {
	name     string
	logprobs bool // the answer has log-probabilities
	do       func(context.Context, *vllm.Client) (any, error)
}{
	{"chat", true, chat(vllm.Params{Logprobs: true})},
	{"chat of two", true, chat(vllm.Params{Logprobs: true, N: 2})},
	{"plain chat", false, chat(vllm.Params{TextOnly: true})},
	{"completion", true, func(ctx context.Context, c *vllm.Client) (any, error) {
		return c.Complete(ctx, vllm.CompletionRequest{Text: "hello", Params: vllm.Params{MaxTokens: 8, Logprobs: true}})
	}},
	{"score", true, func(ctx context.Context, c *vllm.Client) (any, error) {
		return c.Score(ctx, "", []int32{5, 6, 7, 8}, 2)
	}},
	{"models", false, func(ctx context.Context, c *vllm.Client) (any, error) { return c.Models(ctx) }},
	{"tokenize", false, func(ctx context.Context, c *vllm.Client) (any, error) { return c.Tokenize(ctx, "ba be", true) }},
	{"load adapter", false, func(ctx context.Context, c *vllm.Client) (any, error) { return nil, c.LoadAdapter(ctx, "ad", "/p/ad") }},
}

// TestFaultMatrix: every fault of the proxy, on every way of asking, is called what it must be called, within the deadlines; the key is
// in no error; and when the fault passes, the next attempt gives the true answer, unless the error is not one that is tried again.
func TestFaultMatrix(t *testing.T) {
	mute(t)
	for _, call := range calls {
		clean, c := behind(t, faultproxy.Fault{}, 1)
		truth, err := call.do(t.Context(), c)
		if err != nil || clean.Requests() != 1 {
			t.Fatalf("%s: %v", call.name, err)
		}
		for _, f := range faultproxy.All() {
			t.Run(call.name+"/"+f.Name, func(t *testing.T) {
				if f.Name == faultproxy.LogprobsShort().Name && !call.logprobs {
					t.Skip("the answer has none")
				}
				t.Parallel()
				p, c := behind(t, f, 1)
				always(t, p, f)
				begin := time.Now()
				answer, err := call.do(t.Context(), c)
				took := time.Since(begin)
				if err == nil && p.Faults()[f.Name] == 0 {
					t.Skip("it spoils answers with choices alone")
				}
				if f.Waits && took > 2*time.Second {
					t.Errorf("it took %v, the deadline is 0.3 s", took)
				}
				if text := fmt.Sprintf("%v %+v %#v %s", err, err, err, fault.HintOf(err)); strings.Contains(text, canary) {
					t.Errorf("the key is in %s", text)
				}
				if f.Harmless {
					if err != nil || !reflect.DeepEqual(answer, truth) {
						t.Errorf("%+v, %v", answer, err)
					}
					return
				}
				if err == nil || fault.ClassOf(err) != f.Want {
					t.Errorf("%v (%v), want %v", err, fault.ClassOf(err), f.Want)
				}
				if answer != nil && !reflect.ValueOf(answer).IsNil() {
					t.Errorf("an answer beside the error: %+v", answer)
				}
				passing(t, f, call.do, truth)
			})
		}
	}
}

// passing asks when only the first request meets the fault.
func passing(t *testing.T, f faultproxy.Fault, do func(context.Context, *vllm.Client) (any, error), truth any) {
	if f.Name == faultproxy.TLSStall().Name {
		return // there is no other side to it
	}
	p, c := behind(t, f, 2)
	if err := p.Script(f); err != nil {
		t.Fatal(err)
	}
	answer, err := do(t.Context(), c)
	switch n := p.Requests(); { // an adapter that was loaded by the request whose answer was lost is looked up: 3
	case err == nil && (n < 2 || n > 3 || !reflect.DeepEqual(answer, truth)):
		t.Errorf("after the fault: %+v, %d requests", answer, n)
	case err != nil && (n != 1 || fault.ClassOf(err) != f.Want || f.Want == fault.Transient):
		t.Errorf("after the fault: %v (%v), %d requests", err, fault.ClassOf(err), n)
	}
}

// TestLargeAnswersAreNotHeld: a gigabyte, plain or inflated, costs no more memory than the limit on an answer allows.
func TestLargeAnswersAreNotHeld(t *testing.T) {
	for _, call := range calls {
		for _, f := range []faultproxy.Fault{faultproxy.HugeBody(1<<30, false), faultproxy.HugeBody(1<<30, true), faultproxy.GzipBomb(1 << 10), faultproxy.HugeHeader(1 << 20), faultproxy.Nested(100_000)} {
			p, c := behind(t, f, 1)
			always(t, p, f)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := call.do(t.Context(), c); err == nil {
				t.Errorf("%s, %s: no error", call.name, f.Name)
			}
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 24 { // proxy and fake included, which live here too
				t.Errorf("%s, %s: %d MiB allocated", call.name, f.Name, mib)
			}
		}
	}
}

// TestNoConnectionIsLeft: whatever went wrong, once the client is closed the server sees no connection any more. Goroutines are counted
// by the package's TestMain.
func TestNoConnectionIsLeft(t *testing.T) {
	mute(t)
	for _, f := range faultproxy.All() {
		if f.Name == faultproxy.TLSStall().Name {
			continue // the server's side of it never ends by itself
		}
		p, c := behind(t, f, 1)
		if err := p.Script(f, f, faultproxy.Fault{}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, _ = chat(vllm.Params{})(t.Context(), c) // any outcome
		}
		c.Close()
		for deadline := time.Now().Add(5 * time.Second); p.Connections() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections are open", f.Name, p.Connections())
			}
		}
	}
}

// TestMixedFaults: with a fifth of the requests spoiled in every way that passes, every row gets its own true answer.
func TestMixedFaults(t *testing.T) {
	mute(t)
	const rows = 400
	var retried []faultproxy.Fault // by the client itself; a 500 is left to who has other servers
	for _, f := range faultproxy.Passing() {
		switch f.Name {
		case "500", "redirects", "huge header":
		default:
			retried = append(retried, f)
		}
	}
	ask := func(c *vllm.Client) []vllm.Item[*vllm.Result] {
		reqs := make([]vllm.ChatRequest, rows)
		for i := range reqs {
			reqs[i] = vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, fmt.Sprint("row ", i))}, Params: vllm.Params{MaxTokens: 8, Temperature: 1, N: 2, Logprobs: true}}
		}
		return c.GenerateAll(t.Context(), reqs, 16)
	}
	_, c := behind(t, faultproxy.Fault{}, 6)
	truth := ask(c)
	p, c := behind(t, faultproxy.Fault{}, 6)
	if err := p.Rate(.2, retried...); err != nil {
		t.Fatal(err)
	}
	for i, it := range ask(c) {
		if it.Err != nil || truth[i].Err != nil || !reflect.DeepEqual(it.Value, truth[i].Value) {
			t.Errorf("row %d: %+v, %v", i, it.Value, it.Err)
		}
	}
	if n := p.Requests(); n < rows*11/10 || n > rows*13/10 {
		t.Errorf("%d requests for %d rows, want 1.1 to 1.3 of them", n, rows)
	}
	if met := len(p.Faults()); met < len(retried)/2 {
		t.Errorf("only %d of %d faults were met", met, len(retried))
	}
}

// TestServerStartedAgain: a name that was never served is the item's fault, one that the server has forgotten the server's.
func TestServerStartedAgain(t *testing.T) {
	server := fakefleet.New(fakefleet.Config{})
	p, err := faultproxy.New(server, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: p.URL(), Attempts: 1}, Model: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ways := map[string]func() error{
		"chat":       func() error { _, err := chat(vllm.Params{Model: "ad"})(t.Context(), c); return err },
		"plain chat": func() error { _, err := chat(vllm.Params{Model: "ad", TextOnly: true})(t.Context(), c); return err },
		"forward": func() error {
			_, _, err := c.Forward(t.Context(), "/v1/chat/completions", []byte(`{"model":"ad","messages":[{"role":"user","content":"x"}],"max_tokens":2}`))
			return err
		},
		"score": func() error { _, err := c.Score(t.Context(), "ad", []int32{5, 6, 7}, 1); return err },
	}
	for name, ask := range ways {
		if err := ask(); fault.ClassOf(err) != fault.Item || !vllm.IsUnknownModel(err) {
			t.Errorf("%s, never loaded: %v (%v)", name, err, fault.ClassOf(err))
		}
	}
	for name, ask := range ways {
		if err := c.LoadAdapter(t.Context(), "ad", "/p/ad"); err != nil {
			t.Fatal(err)
		}
		if err := ask(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		server.Restart(2)
		if err := ask(); fault.ClassOf(err) != fault.Endpoint || !vllm.IsUnknownModel(err) || fault.HintOf(err) == "" {
			t.Errorf("%s, lost: %v (%v)", name, err, fault.ClassOf(err))
		}
	}
	if err := c.UnloadAdapter(t.Context(), "ad"); err != nil {
		t.Fatal(err)
	}
	if err := ways["chat"](); fault.ClassOf(err) != fault.Item {
		t.Errorf("unloaded: %v (%v)", err, fault.ClassOf(err))
	}
}
