package fakefleet

import (
	"fmt"
	"net/http"
	"strings"

	"recpie/internal/wire/openai"
)

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, openai.VersionResponse{Version: s.version})
}

// serveMetrics writes the gauges that a balancer reads. The cache's use is the share of places taken.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	running, waiting := s.gate.load()
	kv := 0.0
	if c := s.gate.size(); c > 0 {
		kv = min(1, float64(running)/float64(c))
	}
	var b strings.Builder
	label := fmt.Sprintf(`{engine="0",model_name="%s"}`, s.model)
	for _, m := range []struct {
		name, typ, help string
		value           float64
	}{
		{"num_requests_running", "gauge", "Number of requests in model execution batches.", float64(running)},
		{"num_requests_waiting", "gauge", "Number of requests waiting to be processed.", float64(waiting)},
		{"kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", kv},
		{"generation_tokens_total", "counter", "Number of generation tokens processed.", float64(s.tokens.Load())},
	} {
		fmt.Fprintf(&b, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\nvllm:%s%s %v\n", m.name, m.help, m.name, m.typ, m.name, label, m.value)
	}
	w.Header().Set("Content-Type", "text/plain; version=1.0.0; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // the client may be gone
}

func (s *Server) serveTokenize(w http.ResponseWriter, r *http.Request) {
	var req openai.TokenizeRequest
	if _, ok := read(w, r, &req); !ok {
		return
	}
	if _, _, _, ok := s.served(req.Model); !ok {
		s.unknown(w, *req.Model)
		return
	}
	ids := []int32{}
	if req.Prompt != nil {
		if req.AddSpecialTokens == nil || *req.AddSpecialTokens {
			ids = append(ids, bos)
		}
		ids = tokens(ids, *req.Prompt)
	} else {
		var err error
		if ids, err = rendered(req.Messages); err != nil {
			refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "prompt_embeds", err.Error())
			return
		}
	}
	reply(w, http.StatusOK, openai.TokenizeResponse{Count: len(ids), MaxModelLen: s.maxLen, Tokens: ids})
}

func (s *Server) serveDetokenize(w http.ResponseWriter, r *http.Request) {
	var req openai.DetokenizeRequest
	if _, ok := read(w, r, &req); !ok {
		return
	}
	var text []string
	for _, id := range req.Tokens {
		text = append(text, textOf(id))
	}
	reply(w, http.StatusOK, openai.DetokenizeResponse{Prompt: strings.Join(text, " ")})
}
