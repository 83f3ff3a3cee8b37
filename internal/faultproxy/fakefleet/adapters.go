package fakefleet

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"recpie/internal/wire/openai"
)

// adapter is a name with the path that its weights came from.
type adapter struct{ name, root string }

// served returns what determines the answers of the model called name, false when there is none.
func (s *Server) served(name *string) (model, root string, weights uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if name == nil || *name == s.model {
		return s.model, "", s.weights, true
	}
	for _, a := range s.adapters {
		if a.name == *name {
			return a.name, a.root, s.weights, true
		}
	}
	return "", "", 0, false
}

func (s *Server) unknown(w http.ResponseWriter, name string) {
	refuse(w, http.StatusNotFound, openai.TypeNotFound, "model", fmt.Sprintf("The model `%s` does not exist.", name))
}

func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := openai.ModelList{Object: "list", Data: []openai.Model{{ID: s.model, Object: "model", Created: created, OwnedBy: "vllm", Root: "/models/" + s.model, MaxModelLen: &s.maxLen}}}
	for _, a := range s.adapters {
		list.Data = append(list.Data, openai.Model{ID: a.name, Object: "model", Created: created, OwnedBy: "vllm", Root: a.root, Parent: &s.model})
	}
	reply(w, http.StatusOK, list)
}

func (s *Server) serveLoad(w http.ResponseWriter, r *http.Request) {
	var req openai.LoadLoRARequest
	if _, ok := read(w, r, &req); !ok {
		return
	}
	if req.Name == nil || req.Path == nil || *req.Name == "" || *req.Path == "" {
		refuse(w, http.StatusBadRequest, openai.TypeInvalidInput, "", "Both 'lora_name' and 'lora_path' must be provided.")
		return
	}
	if strings.Contains(*req.Path, "does-not-exist") {
		refuse(w, http.StatusNotFound, openai.TypeNotFound, "", fmt.Sprintf("Loading lora %s failed: No adapter found for %s", *req.Name, *req.Path))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.adapters, func(a adapter) bool { return a.name == *req.Name })
	switch {
	case i < 0:
		s.adapters = append(s.adapters, adapter{*req.Name, *req.Path})
	case req.Inplace != nil && *req.Inplace:
		s.adapters[i].root = *req.Path
	default:
		refuse(w, http.StatusBadRequest, openai.TypeInvalidInput, "", fmt.Sprintf("The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.", *req.Name))
		return
	}
	plain(w, fmt.Sprintf("Success: LoRA adapter '%s' added successfully.", *req.Name))
}

func (s *Server) serveUnload(w http.ResponseWriter, r *http.Request) {
	var req openai.UnloadLoRARequest
	if _, ok := read(w, r, &req); !ok {
		return
	}
	if req.Name == nil || *req.Name == "" {
		refuse(w, http.StatusBadRequest, openai.TypeInvalidInput, "", "'lora_name' needs to be provided to unload a LoRA adapter.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.adapters, func(a adapter) bool { return a.name == *req.Name })
	if i < 0 {
		refuse(w, http.StatusNotFound, openai.TypeNotFound, "", fmt.Sprintf("The lora adapter '%s' cannot be found.", *req.Name))
		return
	}
	s.adapters = slices.Delete(s.adapters, i, i+1)
	plain(w, fmt.Sprintf("Success: LoRA adapter '%s' removed successfully.", *req.Name))
}

// plain answers as the adapter routes do: text without a content type.
func plain(w http.ResponseWriter, text string) {
	w.Header()["Content-Type"] = nil
	_, _ = w.Write([]byte(text)) // the client may be gone
}
