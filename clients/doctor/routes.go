package doctor

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// vLLM asks for its key only below /v1, /v2, /inference and /cohere. These of its other routes change the server for everybody …
var governing = []string{
	"/pause", "/resume", "/abort_requests", "/sleep", "/wake_up", "/update_weights", "/init_weight_transfer_engine", "/collective_rpc",
	"/reset_prefix_cache", "/release_kv_cache_memory", "/start_profile", "/scale_elastic_ep", "/fault_tolerance/apply", "/adapters",
}

// … and these compute, or tell what the server does.
var telling = []string{"/tokenize", "/detokenize", "/invocations", "/metrics", "/server_info", "/openapi.json"}

// nowhere is a path that no server has.
const nowhere = "/recpie-doctor/no-such-route"

// routes says which routes answer whoever has no key. It asks with OPTIONS, which runs nothing: a route that is there answers 405 or
// a success, one that is not 404, one behind a key 401 or 403. closed tells whether the server asks for a key elsewhere.
func (c *chart) routes(ctx context.Context, l *link, closed bool) {
	const (
		what   = "open routes"
		remedy = "let a reverse proxy pass only /v1/ and /health, or let only trusted hosts reach the server (vLLM's --api-key does not cover these routes)"
	)
	open, ok := l.openRoutes(ctx)
	if !ok {
		c.warn(what, "see by hand that "+strings.Join(governing[:6], ", ")+" … answer 401 or 404 without the key",
			"the server answers OPTIONS for any path and has no open /openapi.json: it cannot be told without side effects")
		return
	}
	var grave, light []string
	for _, path := range open {
		if slices.Contains(governing, path) {
			grave = append(grave, path)
		} else {
			light = append(light, path)
		}
	}
	host := l.url.Hostname()
	switch {
	case len(grave) > 0:
		c.warn(what, remedy, "without a key anyone who reaches the server can use %s%s", strings.Join(grave, " "), also(light))
	case len(light) > 0 && !loopback(host):
		c.warn(what, remedy, "open without a key: %s", strings.Join(light, " "))
	case len(light) > 0:
		c.ok(what, "open without a key, on this machine: %s", strings.Join(light, " "))
	case closed:
		c.ok(what, "none without the key")
	default:
		c.ok(what, "none beside the API itself")
	}
}

func also(light []string) string {
	if len(light) == 0 {
		return ""
	}
	return "; and see or compute with " + strings.Join(light, " ")
}

// openRoutes returns which of the routes above answer without a key; false when it cannot be told.
func (l *link) openRoutes(ctx context.Context) ([]string, bool) {
	all := slices.Concat(governing, telling)
	probe, err := l.bare(ctx, http.MethodOptions, nowhere)
	if err != nil {
		return nil, false
	}
	if probe.denied() {
		return nil, true
	}
	if probe.status != http.StatusNotFound {
		return l.listedRoutes(ctx, all)
	}
	var open []string
	for _, path := range all {
		a, err := l.bare(ctx, http.MethodOptions, path)
		if err != nil {
			return nil, false
		}
		if a.status == http.StatusMethodNotAllowed || a.status < 300 {
			open = append(open, path)
		}
	}
	return open, true
}

// listedRoutes reads the server's own list of routes, where it can be read without a key.
func (l *link) listedRoutes(ctx context.Context, all []string) ([]string, bool) {
	a, err := l.bare(ctx, http.MethodGet, "/openapi.json")
	var doc struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &doc) != nil || len(doc.Paths) == 0 {
		return nil, false
	}
	open := slices.DeleteFunc(slices.Clone(all), func(path string) bool {
		_, listed := doc.Paths[path]
		return !listed && path != "/openapi.json"
	})
	return open, true
}
