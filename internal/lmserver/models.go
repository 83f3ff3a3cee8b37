package lmserver

import (
	"fmt"
	"net/http"
	"strings"

	"recpie/internal/wire/openai"
)

// Version is the vLLM release whose API and answers are followed.
const Version = "0.32.0"

const fingerprint = "recpie-vllm-" + Version

func emptyOK(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, openai.VersionResponse{Version: Version})
}

// models lists the base model, then the adapters in the order they were loaded; an adapter has parent set and its path as root.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	card := func(id, root string) openai.Model {
		return openai.Model{ID: id, Object: "model", Created: s.created, OwnedBy: "vllm", Root: root,
			Permission: []openai.Permission{{ID: newID("modelperm-"), Object: "model_permission", Created: s.created,
				AllowSampling: true, AllowLogprobs: true, AllowView: true, Organization: "*"}}}
	}
	base := card(s.base, s.base)
	base.MaxModelLen = &s.opt.Model.MaxLen
	cards := []openai.Model{base}
	for _, a := range s.adapters.list() {
		c := card(a.name, a.root)
		c.Parent = &s.base
		cards = append(cards, c)
	}
	writeJSON(w, http.StatusOK, openai.ModelList{Object: "list", Data: cards})
}

// metrics writes the gauges and counters that the clients read, in Prometheus' text form and with vLLM's names.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	row := func(name, kind, help string, value int64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s{engine=\"0\",model_name=%q} %d\n", name, help, name, kind, name, s.base, value)
	}
	row("vllm:num_requests_running", "gauge", "Requests being computed.", s.running.Load())
	row("vllm:num_requests_waiting", "gauge", "Requests accepted and not yet running.", int64(len(s.inFlight))-s.running.Load())
	row("vllm:prompt_tokens_total", "counter", "Prompt tokens processed.", s.prompted.Load())
	row("vllm:generation_tokens_total", "counter", "Tokens generated.", s.sampled.Load())
	stats := s.engine.Stats()
	row("vllm:prefix_cache_queries_total", "counter", "Prompt tokens that could have been shared.", stats.PromptTokensSent)
	row("vllm:prefix_cache_hits_total", "counter", "Prompt tokens that were computed for another request as well.", stats.PromptTokensSent-stats.PromptTokensComputed)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String()))
}
