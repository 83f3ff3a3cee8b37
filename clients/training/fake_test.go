package training

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"recpie/clients/transport"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a training server that answers by the contract. Futures of a model run in seq order and at most once per number.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	log      []string          // "path body" of every JSON request that is not a poll, a heartbeat or a finish
	accept   map[string]string // Accept header by polled future
	futures  map[string]func(w http.ResponseWriter)
	bySeq    map[string]string // "model/seq" → request id
	ran      []int32           // seq ids in the order of execution
	passes   []*pb.ForwardBackwardRequest
	tries    map[string]int // polls per future
	beats    int
	finished bool

	extensions []string
	dropSubmit int                                                             // cut the connection after having accepted the first n submits
	poll       func(n int, w http.ResponseWriter) bool                         // answers poll n of a future itself when it returns true
	result     func(*pb.ForwardBackwardRequest) (contentType string, b []byte) // of a pass
	beatStatus int
	archive    http.HandlerFunc
	submit     int // status of every submit, 0: accepted
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{accept: map[string]string{}, futures: map[string]func(http.ResponseWriter){}, bySeq: map[string]string{}, tries: map[string]int{}, extensions: []string{tinker.ExtensionPromptEmbed}}
	f.result = goodPass
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) dial(t *testing.T, change ...func(*Config)) *Session {
	t.Helper()
	cfg := Config{Settings: transport.Settings{BaseURL: f.URL, Attempts: 4, BackoffFirst: time.Millisecond, BackoffMax: 5 * time.Millisecond}}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	return s
}

// goodPass returns log-probabilities −1, −2, … and gradients equal to the embeds, one record per datum.
func goodPass(r *pb.ForwardBackwardRequest) (string, []byte) {
	out := &pb.ForwardBackwardOutput{LossFnOutputType: tinker.OutputArrayRecord, Metrics: map[string]float64{tinker.MetricLossSum: 1.5}}
	for _, d := range r.Data {
		ids, _ := tinker.Tokens(d.ModelInput)
		lp := make([]float32, len(ids))
		for i := range lp {
			lp[i] = -float32(i + 1)
		}
		fields := map[string]*pb.BatchedTensor{tinker.OutputLogprobs: tinker.Batch([][]float32{lp})}
		embeds, shape, _ := tinker.TensorFloats(d.LossFnInputs[tinker.InputEmbeds])
		if !r.ForwardOnly {
			hidden := int64(2)
			if len(shape) == 2 {
				hidden = shape[1]
			}
			fields[tinker.OutputEmbedsGrad] = tinker.Batch([][]float32{embeds}, hidden)
		}
		out.LossFnOutputs = append(out.LossFnOutputs, &pb.ArrayRecord{NumDatums: 1, Fields: fields})
	}
	b, _ := proto.Marshal(out)
	return tinker.ProtobufType, b
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	if r.Header.Get("Authorization") != "" {
		w.WriteHeader(400)
		return
	}
	switch path := r.URL.Path; {
	case path == tinker.PathRetrieveFuture:
		f.retrieve(w, r, body)
		return
	case path == tinker.PathHeartbeat:
		f.beats++
		if f.beatStatus != 0 {
			w.WriteHeader(f.beatStatus)
		}
		return
	case strings.HasSuffix(path, "/finish"):
		f.finished = true
		return
	case strings.HasSuffix(path, "/archive"), strings.HasSuffix(path, "/download"):
		f.archive(w, r)
		return
	case path == tinker.PathForwardBackward:
		f.log = append(f.log, path)
	default:
		f.log = append(f.log, path+" "+string(body))
	}
	switch r.URL.Path {
	case tinker.PathClientConfig:
		reply(struct{}{})
	case tinker.PathCapabilities:
		reply(tinker.Capabilities{Extensions: f.extensions})
	case tinker.PathCreateSession:
		reply(tinker.CreateSessionResponse{SessionID: "S"})
	case tinker.PathGetInfo:
		reply(tinker.Info{ModelID: "S:train:0", ModelData: tinker.ModelData{HiddenSize: 2, VocabSize: 9, TokenEmbeddingNorm: .5}})
	case tinker.PathCreateModel, tinker.PathLoadWeights:
		var req struct {
			Seq int `json:"model_seq_id"`
		}
		_ = json.Unmarshal(body, &req)
		id := fmt.Sprintf("S:train:%d", req.Seq)
		f.future(id+"/0", func(w http.ResponseWriter) { reply2(w, tinker.CreateModelResult{ModelID: id}) })
		reply(tinker.Future{RequestID: id + "/0"})
	case tinker.PathForwardBackward:
		var req pb.ForwardBackwardRequest
		if proto.Unmarshal(body, &req) != nil || r.Header.Get("Content-Type") != tinker.ProtobufType {
			w.WriteHeader(400)
			return
		}
		f.accepted(w, req.ModelId, req.SeqId, func() func(http.ResponseWriter) {
			f.passes = append(f.passes, &req)
			kind, b := f.result(&req)
			return func(w http.ResponseWriter) { w.Header().Set("Content-Type", kind); _, _ = w.Write(b) }
		})
	default:
		var req struct {
			Model string `json:"model_id"`
			Seq   int32  `json:"seq_id"`
			Path  string `json:"path"`
			Kind  string `json:"kind"`
		}
		_ = json.Unmarshal(body, &req)
		f.accepted(w, req.Model, req.Seq, func() func(http.ResponseWriter) {
			var v any = tinker.OptimStepResult{Metrics: map[string]float64{"grad_norm": 2}}
			if req.Path != "" {
				kind := tinker.KindWeights
				if req.Kind != "" {
					kind = tinker.KindSampler
				}
				v = tinker.SaveWeightsResult{Path: tinker.Path{Model: req.Model, Kind: kind, Name: req.Path}.String()}
			}
			return func(w http.ResponseWriter) { reply2(w, v) }
		})
	}
}

func reply2(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (f *fake) future(id string, answer func(http.ResponseWriter)) { f.futures[id] = answer }

// accepted runs a request once per (model, seq) and answers with its future.
func (f *fake) accepted(w http.ResponseWriter, model string, seq int32, run func() func(http.ResponseWriter)) {
	if f.submit != 0 {
		w.WriteHeader(f.submit)
		reply2(w, map[string]string{"detail": "refused"})
		return
	}
	key := fmt.Sprintf("%s/%d", model, seq)
	if _, again := f.bySeq[key]; !again {
		f.bySeq[key] = "R" + key
		f.ran = append(f.ran, seq)
		f.future("R"+key, run())
	}
	if f.dropSubmit > 0 {
		f.dropSubmit--
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return
	}
	reply2(w, tinker.Future{RequestID: f.bySeq[key]})
}

func (f *fake) retrieve(w http.ResponseWriter, r *http.Request, body []byte) {
	var req tinker.RetrieveRequest
	_ = json.Unmarshal(body, &req)
	f.accept[req.RequestID] = r.Header.Get("Accept")
	f.tries[req.RequestID]++
	if f.poll != nil && f.poll(f.tries[req.RequestID], w) {
		return
	}
	answer, ok := f.futures[req.RequestID]
	if !ok {
		w.WriteHeader(404)
		return
	}
	answer(w)
}
