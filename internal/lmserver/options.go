package lmserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
)

// Options say what to serve and within which bounds. Zero values take the defaults named beside the fields.
type Options struct {
	Model  *lm.Bundle       // the model with tokenizer and chat template; required, and left open by Shutdown
	Engine lm.EngineOptions // batching of the sampler

	Listen      string // address, default 127.0.0.1:0. Off loopback an APIKey is compulsory
	APIKey      string // "" means open; comes from the environment or a file, never from a flag
	AdapterRoot string // the only folder adapters are loaded from; "" answers 404 on the LoRA routes, as vLLM does with the switch off
	StateDir    string // training checkpoints live here and survive a restart; "" answers 404 on the training API

	Checkpointing bool // training computes activations again instead of keeping them
	DropUnembed   bool // an adapter that is to sit on the unembedding too, which the official client asks for unless told otherwise, is made without that part; else it is refused
	DurableSteps  bool // what a model acknowledges is on disk before, and a server over the same folder goes on from it

	MaxBody        int64         // bytes of a request body after decompression, default 64 MiB
	MaxData        int           // data of one forward_backward request, default 4096
	MaxRows        int           // soft-prompt rows of one part, default 1024
	MaxAdapter     int64         // bytes of an adapter's files, default 2 GiB
	MaxInFlight    int           // generation requests accepted at a time, default 1024; more get 503
	MaxSessions    int           // known at a time, default 4096; more get 429, as with the next three
	MaxModels      int           // under training at a time, default 64
	MaxSamplers    int           // sampling sessions at a time, default 1024
	MaxWaiting     int           // requests of one model that wait for their turn, default 256
	GapTimeout     time.Duration // wait for a missing seq_id before going on without it, default 60 s
	LongPoll       time.Duration // retrieve_future answers try_again after it, default 20 s, at most 30 s
	KeepFutures    time.Duration // finished results stay retrievable, default 15 min
	SessionTimeout time.Duration // a silent session is closed and its models freed, default 30 min
	Log            *slog.Logger  // default: discards. Prompts and texts are never logged
}

const (
	maxPoll        = 30 * time.Second
	requestTimeout = 15 * time.Minute
)

func (o Options) withDefaults() (Options, error) {
	if o.Model == nil {
		return o, fault.New(fault.Fatal, "lmserver", errors.New("no model given"))
	}
	setDefault(&o.Listen, "127.0.0.1:0")
	setDefault(&o.MaxBody, 64<<20)
	setDefault(&o.MaxData, 4096)
	setDefault(&o.MaxRows, 1024)
	setDefault(&o.MaxAdapter, 2<<30)
	setDefault(&o.MaxInFlight, 1024)
	setDefault(&o.MaxSessions, 4096)
	setDefault(&o.MaxModels, 64)
	setDefault(&o.MaxSamplers, 1024)
	setDefault(&o.MaxWaiting, 256)
	setDefault(&o.GapTimeout, time.Minute)
	setDefault(&o.LongPoll, 20*time.Second)
	setDefault(&o.KeepFutures, 15*time.Minute)
	setDefault(&o.SessionTimeout, 30*time.Minute)
	if o.LongPoll > maxPoll {
		o.LongPoll = maxPoll
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.APIKey != strings.TrimSpace(o.APIKey) {
		return o, fault.Newf(fault.Fatal, "lmserver", "the API key has spaces around it")
	}
	loopback, err := isLoopback(o.Listen)
	if err != nil {
		return o, err
	}
	if !loopback && o.APIKey == "" {
		return o, fault.WithHint(
			fault.Newf(fault.Fatal, "lmserver", "refusing to listen on %s without an API key", o.Listen),
			"listen on 127.0.0.1, or give a key through the environment or a file")
	}
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// isLoopback says whether every connection to the address comes from this machine. A name other than localhost is not trusted
// to stay on it.
func isLoopback(addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fault.New(fault.Fatal, "lmserver", fmt.Errorf("listen address: %w", err))
	}
	return isLoopbackHost(host), nil
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}
