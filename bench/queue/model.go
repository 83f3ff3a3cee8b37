package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/faultproxy/fakefleet"
	"recpie/internal/queue"
)

// handler is a queue.Handler.
type handler func(ctx context.Context, b queue.Batch, rows []queue.Input) ([]queue.Result, error)

// Do answers rows.
func (h handler) Do(ctx context.Context, b queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	return h(ctx, b, rows)
}

// handler returns what answers the rows, and what closes it.
func (s *settings) handler() (handler, func(), error) {
	if s.url != "" {
		return remote(s.url)
	}
	text := strings.Repeat("x", s.bytes)
	return func(_ context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
		out := make([]queue.Result, len(rows))
		for i, r := range rows {
			out[i] = queue.Result{Row: r.Row, Text: text, Tokens: 20}
		}
		return out, nil
	}, func() {}, nil
}

// Limits of remote.
const (
	inFlight  = 64 // requests
	maxTokens = 16
)

// remote asks a server for every row, by the clients that the program uses.
func remote(url string) (handler, func(), error) {
	client, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: url, Attempts: 1, MaxConcurrent: inFlight}, Model: "tiny"})
	if err != nil {
		return nil, nil, err
	}
	servers, err := pool.New(pool.Settings{MaxInFlight: inFlight}, []pool.Endpoint[*vllm.Client]{{Name: url, Client: client}})
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
		out := make([]queue.Result, len(rows))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(inFlight)
		for i, r := range rows {
			g.Go(func() error {
				ask := vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, fmt.Sprintf("Would user %d like item %d?", r.Row/20, r.Row))}, Params: vllm.Params{MaxTokens: maxTokens, TextOnly: true}}
				call := pool.Call{Op: "chat", Key: fmt.Sprint(r.Row / 20), Tokens: maxTokens}
				return servers.Do(ctx, call, func(ctx context.Context, c *vllm.Client) error {
					a, err := c.Chat(ctx, ask)
					if err == nil {
						out[i] = queue.Result{Row: r.Row, Text: a.Choices[0].Text, Tokens: a.CompletionTokens}
					}
					return err
				})
			})
		}
		return out, g.Wait()
	}, func() { servers.Close(); client.Close() }, nil
}

// serve is an inference server that answers at once. It prints its address and serves until it is killed.
func serve(w io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "http://%s\n", l.Addr())
	return http.Serve(l, fakefleet.New(fakefleet.Config{}))
}
