package doctor

import (
	"context"
	"net/http"
	"strings"
	"time"

	"recpie/clients/transport"
)

// Inference is an inference server and what a run would ask of it.
type Inference struct {
	URL, KeyEnv  string // KeyEnv names the environment variable of the key; "": none
	Model        string // served name
	PromptTokens int    // longest prompt
	AnswerTokens int    // longest answer
	SoftPrompts  bool   // user embeddings are sent as soft prompts
	Adapters     bool   // the policy is trained: prompts are scored and adapters loaded while the server runs
	Path         string // policy.path of the settings; "": lora
	Steps        bool   // the server samples the policy's steps alone: what it lacks closes the path merged
	Concurrency  int    // requests in flight, as the settings have it
	Timeout      time.Duration
	Chat         bool              // TGI: texts go through the server's chat template
	Probe        bool              // measure the throughput too
	RoundTripper http.RoundTripper // nil: the network
}

// Examine looks at the server from the outside in: is it there, who can reach it, what does it run, what can it do, how fast is it.
// Its answers tell which kind of server it is.
func (i Inference) Examine(ctx context.Context) []Finding {
	c := &chart{server: i.URL}
	key, ok := c.key(i.KeyEnv)
	if !ok {
		return c.all
	}
	s := transport.Settings{BaseURL: strings.TrimSuffix(strings.TrimRight(i.URL, "/"), "/v1"), Key: key, RoundTripper: i.RoundTripper}
	l, err := dial(s)
	if err != nil {
		c.failed(Miss, "reachable", "mend inference.endpoints", err)
		return c.all
	}
	defer l.close()
	if !c.reachable(ctx, l, "/health", "start the server, or mend inference.endpoints") {
		return c.all
	}
	s.Attempts, s.Headers, s.Total, s.BackoffMax, s.MaxConcurrent = 2, i.Timeout, i.Timeout, 2*time.Second, mostConcurrent
	if isTGI(ctx, l) {
		c.tgi(ctx, i, l, s)
	} else {
		c.vllm(ctx, i, l, s)
	}
	return c.all
}

// key reads the key.
func (c *chart) key(name string) (transport.Secret, bool) {
	key, err := transport.SecretFromEnv(name)
	if err != nil {
		c.note(Miss, "key", "export "+name, err.Error())
		return key, false
	}
	return key, true
}

// reachable asks for a route that every server of the kind has, and looks at how it came over.
func (c *chart) reachable(ctx context.Context, l *link, path, remedy string) bool {
	const what = "reachable"
	a, err := l.get(ctx, path)
	switch {
	case err != nil:
		c.failed(Miss, what, remedy, err)
		return false
	case a.status >= 500:
		c.miss(what, "look at the server's log, and start it again", "GET %s: HTTP %d %s", path, a.status, string(a.body))
		return false
	case a.status >= 300 && a.status < 400:
		c.miss(what, "name its final address", "the server redirects to %q", a.header.Get("Location"))
		return false
	}
	c.ok(what, "answers in %s", short(a.came.Sub(a.sent)))
	c.encryption(ctx, l, a)
	c.clock(a)
	return true
}

// guarded asks for a route that a key protects, with the key and without. keyEnv names the variable that holds it, setting where that is
// set; flag is how the server is told to ask for a key.
func (c *chart) guarded(ctx context.Context, l *link, path string, key transport.Secret, keyEnv, setting, flag string) bool {
	const what = "key"
	with, err := l.get(ctx, path)
	if err != nil {
		c.failed(Miss, what, "look at the server's log", err)
		return false
	}
	if with.denied() {
		if key.Empty() {
			c.miss(what, "name the environment variable that holds it: key_env of "+setting, "the server asks for a key, and none is set")
		} else {
			c.miss(what, "put the server's key into "+keyEnv+", which key_env of "+setting+" names", "the server refuses the key: HTTP %d", with.status)
		}
		return false
	}
	if key.Empty() {
		c.keyless(l, setting, flag)
		return true
	}
	if without, err := l.bare(ctx, http.MethodGet, path); err == nil && without.denied() {
		c.ok(what, "asked for and accepted")
		return true
	}
	c.warn(what, "start the server with "+flag, "the server takes requests without the key as well: it protects nothing")
	return true
}

// keyless judges a server that answers without a key.
func (c *chart) keyless(l *link, setting, flag string) {
	if loopback(l.url.Hostname()) {
		c.ok("key", "none, on this machine")
		return
	}
	c.warn("key", "start the server with "+flag+", and name the key's environment variable in key_env of "+setting, "none: whoever reaches the server can use it")
}

// listed joins names, the first few of many.
func listed(names []string) string {
	if len(names) > 8 {
		names = append(names[:8:8], "…")
	}
	return strings.Join(names, ", ")
}

// short prints a duration with the precision that a person reads.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
