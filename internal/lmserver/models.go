package lmserver

import (
	"net/http"

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
