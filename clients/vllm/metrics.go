package vllm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"recpie/clients/transport"
)

// Metrics is what a server says about itself. A server with several engines or models adds them up; KVUsage is the fullest one's.
type Metrics struct {
	Running, Waiting float64 // requests
	KVUsage          float64 // share of the KV cache in use, 0 to 1
	// The prefix cache counts prompt tokens since the server started, all and those found. HasPrefixCache is false when it is
	// switched off or the server does not count.
	PrefixQueries, PrefixHits float64
	HasPrefixCache            bool
}

// Metrics reads the server's queue lengths and cache counters from its Prometheus page. It needs no key.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	const op = "vllm: metrics"
	var m Metrics
	err := c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodGet, Path: "/metrics", Accept: "text/plain", Aside: true, Check: func(r *transport.Reply) error {
		if err := statusError(op, r); err != nil {
			return err
		}
		var err error
		m, err = parseMetrics(r.Body)
		return transport.Suspect(op, err)
	}})
	return m, err
}

// parseMetrics reads the samples that matter from the text format. Lines of other metrics are not looked at.
func parseMetrics(page []byte) (m Metrics, err error) {
	found := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), " ")
		if !ok || !strings.HasPrefix(name, "vllm:") {
			continue
		}
		if i := strings.IndexByte(name, '{'); i >= 0 {
			// Label values may hold spaces: the sample follows the last brace.
			name = name[:i]
			if _, rest, ok = cutLast(lines.Text(), "} "); !ok {
				return Metrics{}, fmt.Errorf("line of %s has no value", name)
			}
		}
		var to *float64
		switch name {
		case "vllm:num_requests_running":
			to = &m.Running
		case "vllm:num_requests_waiting":
			to = &m.Waiting
		case "vllm:kv_cache_usage_perc":
			to = &m.KVUsage
		case "vllm:prefix_cache_queries_total":
			to = &m.PrefixQueries
		case "vllm:prefix_cache_hits_total":
			to = &m.PrefixHits
		default:
			continue
		}
		text, _, _ := strings.Cut(rest, " ") // a timestamp may follow
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return Metrics{}, fmt.Errorf("%s is %q", name, text)
		}
		found[name] = true
		if name == "vllm:kv_cache_usage_perc" {
			*to = max(*to, v)
		} else {
			*to += v
		}
	}
	if err := lines.Err(); err != nil {
		return Metrics{}, err
	}
	if !found["vllm:num_requests_running"] || !found["vllm:num_requests_waiting"] {
		return Metrics{}, errors.New("the page has no vllm:num_requests_running and vllm:num_requests_waiting")
	}
	m.HasPrefixCache = found["vllm:prefix_cache_queries_total"] && found["vllm:prefix_cache_hits_total"]
	return m, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
