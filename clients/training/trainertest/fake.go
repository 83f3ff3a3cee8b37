package trainertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"recpie/internal/wire/tinker"
)

// Fake is a training server of one small model that learns. Requests run when they arrive.
type Fake struct {
	*httptest.Server
	how Deviations

	mu       sync.Mutex
	models   map[string]*trained
	futures  map[string]*outcome
	samplers map[string]string // paths, "" for the base model
	saved    map[string]*table // by full path
	sessions int
	softRows int // data with soft rows that arrived
}

// trained is a model with what has been asked of it.
type trained struct {
	*table
	requests map[int32]string // future by number
	first    bool             // no request yet
	loaded   string           // snapshot that is in the slot
}

// outcome is a future, one of sixteen running for some polls, then a result or an error.
type outcome struct {
	number  int
	polls   int
	result  any // JSON, or proto.Message
	failure string
}

// running lasts for more polls than the client makes attempts of a call: to be told to ask again is no failure.
func (o *outcome) running() bool { return o.number%16 == 1 && o.polls <= 6 }

// NewFake starts a fake.
func NewFake(t *testing.T, how Deviations) *Fake {
	f := &Fake{how: how, models: map[string]*trained{}, futures: map[string]*outcome{}, samplers: map[string]string{}, saved: map[string]*table{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	reply(w, status, map[string]string{"detail": fmt.Sprintf(format, args...)})
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	read := func(into any) bool {
		err := json.NewDecoder(bytes.NewReader(body)).Decode(into)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, "%v", err)
		}
		return err == nil
	}
	switch path := r.URL.Path; path {
	case tinker.PathClientConfig, tinker.PathHeartbeat:
		reply(w, http.StatusOK, struct{}{})
	case tinker.PathCapabilities:
		reply(w, http.StatusOK, tinker.Capabilities{SupportedModels: []tinker.SupportedModel{{ModelName: "table"}}})
	case tinker.PathCreateSession:
		f.sessions++
		reply(w, http.StatusOK, tinker.CreateSessionResponse{SessionID: fmt.Sprintf("S%d", f.sessions)})
	case tinker.PathCreateModel:
		var req tinker.CreateModelRequest
		if read(&req) {
			f.create(w, req.SessionID, req.ModelSeq, newTable())
		}
	case tinker.PathGetInfo:
		var req tinker.ModelRequest
		if read(&req) {
			reply(w, http.StatusOK, tinker.Info{ModelID: req.ModelID, ModelData: tinker.ModelData{ModelName: "table"}})
		}
	case tinker.PathForwardBackward:
		f.forwardBackward(w, body)
	case tinker.PathOptimStep:
		var req tinker.OptimStepRequest
		if read(&req) {
			f.request(w, req.ModelID, req.SeqID, func(m *trained) *outcome {
				return &outcome{result: tinker.OptimStepResult{Metrics: map[string]float64{"grad_norm": m.step(req.AdamParams)}}}
			})
		}
	case tinker.PathSaveWeights, tinker.PathSaveForSampler:
		var req tinker.SaveWeightsRequest
		if read(&req) {
			f.save(w, req, path == tinker.PathSaveForSampler)
		}
	case tinker.PathLoadWeights:
		var req tinker.LoadWeightsRequest
		if read(&req) {
			f.load(w, req)
		}
	case tinker.PathWeightsInfo:
		var req tinker.WeightsInfoRequest
		switch {
		case !read(&req):
		case f.saved[req.TinkerPath] == nil:
			refuse(w, http.StatusNotFound, "no such checkpoint")
		default:
			reply(w, http.StatusOK, tinker.WeightsInfo{BaseModel: "table", IsLoRA: true, LoRARank: 4})
		}
	case tinker.PathSamplingSession:
		var req samplerRequest
		if read(&req) {
			id := fmt.Sprintf("sampling_%d", len(f.samplers))
			f.samplers[id] = req.ModelPath
			reply(w, http.StatusOK, map[string]string{"sampling_session_id": id})
		}
	case tinker.PathSample:
		var req sampleRequest
		if read(&req) {
			f.sample(w, req)
		}
	case tinker.PathRetrieveFuture:
		var req tinker.RetrieveRequest
		if read(&req) {
			f.retrieve(w, req.RequestID)
		}
	default:
		if strings.HasSuffix(path, "/archive") {
			f.archive(w, path)
			return
		}
		refuse(w, http.StatusNotFound, "Not Found")
	}
}

// accept answers with a new future.
func (f *Fake) accept(w http.ResponseWriter, o *outcome, more ...string) string {
	o.number = len(f.futures) + 1
	id := fmt.Sprint(o.number)
	f.futures[id] = o
	reply(w, http.StatusOK, tinker.Future{RequestID: id, SampleSequenceIDs: more})
	return id
}

// request runs a numbered request of a model, once.
func (f *Fake) request(w http.ResponseWriter, model string, seq int32, run func(*trained) *outcome) {
	m := f.models[model]
	if m == nil {
		refuse(w, http.StatusNotFound, "Model not found")
		return
	}
	if id, seen := m.requests[seq]; seen && seq > 0 && !f.how.RunsTwice {
		reply(w, http.StatusOK, tinker.Future{RequestID: id})
		return
	}
	m.first = false
	m.requests[seq] = f.accept(w, run(m))
}

func (f *Fake) retrieve(w http.ResponseWriter, id string) {
	o := f.futures[id]
	if o == nil {
		refuse(w, http.StatusNotFound, "Future not found")
		return
	}
	o.polls++
	message, binary := o.result.(proto.Message)
	switch {
	case o.running() && f.how.Interim408:
		refuse(w, http.StatusRequestTimeout, "Timeout waiting for result")
	case o.running():
		reply(w, http.StatusOK, tinker.FutureState{Type: tinker.TypeTryAgain, RequestID: id, QueueState: "active"})
	case o.failure != "" && f.how.Failures400:
		refuse(w, http.StatusBadRequest, "%s", o.failure)
	case o.failure != "":
		reply(w, http.StatusOK, tinker.FutureState{Error: &o.failure, Category: tinker.CategoryUser})
	case binary:
		b, _ := proto.Marshal(message)
		w.Header().Set("Content-Type", tinker.ProtobufType)
		_, _ = w.Write(b)
	default:
		reply(w, http.StatusOK, o.result)
	}
}
