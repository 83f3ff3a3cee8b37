package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// trainer is a training server by the contract, with faults. It answers in the SDK's order: a future, then its result.
type trainer struct {
	t          *testing.T
	key        string
	models     []tinker.SupportedModel
	extensions []string
	losses     []string
	dialect    int  // status of client/config
	create     int  // status of create_model
	twice      bool // a number that was seen runs again

	mu      sync.Mutex
	seen    []string
	results map[string]func(http.ResponseWriter)
}

func newTrainer(t *testing.T) *trainer {
	return &trainer{t: t, models: []tinker.SupportedModel{{ModelName: "llama", MaxContextLength: 512, Trainable: true}, {ModelName: "sampled"}},
		extensions: []string{tinker.ExtensionPromptEmbed}, losses: []string{"ppo", "cross_entropy"}, dialect: 200, create: 200, results: map[string]func(http.ResponseWriter){}}
}

func (f *trainer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, r.URL.Path)
	if f.key != "" && r.URL.Path != tinker.PathHealth && r.Header.Get(tinker.HeaderAPIKey) != f.key {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	future := func(id string, result func(http.ResponseWriter)) {
		f.results[id] = result
		reply(tinker.Future{RequestID: id})
	}
	switch path := r.URL.Path; path {
	case tinker.PathHealth:
		reply(map[string]string{"status": "ok"})
	case tinker.PathClientConfig:
		w.WriteHeader(f.dialect)
		reply(struct{}{})
	case tinker.PathCapabilities:
		reply(tinker.Capabilities{SupportedModels: f.models, Extensions: f.extensions})
	case tinker.PathCreateSession:
		reply(tinker.CreateSessionResponse{SessionID: "S"})
	case tinker.PathHeartbeat:
	case tinker.PathCreateModel:
		if f.create != 200 {
			w.WriteHeader(f.create)
			reply(map[string]string{"detail": "rank is above the cap of 8"})
			return
		}
		future("new", func(w http.ResponseWriter) {
			_ = json.NewEncoder(w).Encode(tinker.CreateModelResult{ModelID: "S:train:0"})
		})
	case tinker.PathUnloadModel:
		future("gone", func(w http.ResponseWriter) {
			_ = json.NewEncoder(w).Encode(tinker.CreateModelResult{ModelID: "S:train:0"})
		})
	case tinker.PathForwardBackward:
		var req pb.ForwardBackwardRequest
		if err := proto.Unmarshal(body, &req); err != nil || !req.ForwardOnly {
			f.t.Errorf("a pass that is not forward only: %v", err)
		}
		id := fmt.Sprint("pass-", req.SeqId)
		if f.twice {
			id += fmt.Sprint("-", len(f.results))
		}
		future(id, func(w http.ResponseWriter) {
			f.pass(w, req.LossFn, len(req.Data[0].LossFnInputs[tinker.InputTargets].GetDense())/8)
		})
	case tinker.PathRetrieveFuture:
		var req tinker.RetrieveRequest
		_ = json.Unmarshal(body, &req)
		f.results[req.RequestID](w)
	default:
		if !strings.HasSuffix(path, "/finish") {
			f.t.Errorf("%s was called", path)
		}
	}
}

func (f *trainer) pass(w http.ResponseWriter, loss string, n int) {
	if !strings.Contains(strings.Join(f.losses, " "), loss) {
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "loss_fn " + loss + " is not supported", "category": "user"})
		return
	}
	out := &pb.ForwardBackwardOutput{LossFnOutputType: tinker.OutputArrayRecord, Metrics: map[string]float64{tinker.MetricLossSum: 1}, LossFnOutputs: []*pb.ArrayRecord{
		{NumDatums: 1, Fields: map[string]*pb.BatchedTensor{tinker.OutputLogprobs: tinker.Batch([][]float32{slices.Repeat([]float32{-1}, n)})}}}}
	b, _ := proto.Marshal(out)
	w.Header().Set("Content-Type", tinker.ProtobufType)
	_, _ = w.Write(b)
}

func (f *trainer) examine(change ...func(*Training)) []Finding {
	f.t.Helper()
	s := Training{URL: "http://127.0.0.1:9000", Model: "llama", Rank: 8, SoftPrompts: true, RoundTripper: direct{f}}
	for _, c := range change {
		c(&s)
	}
	var all []Finding
	synctest.Test(f.t, func(t *testing.T) { all = Examine(t.Context(), []Server{s}, 1) })
	remedied(f.t, all)
	return all
}

func TestTraining(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "tml-1")
	probe := func(s *Training) { s.Probe = true }
	golden(t, "training.txt", printed(newTrainer(t).examine(probe)))
	for name, tc := range map[string]struct {
		fault  func(*trainer)
		change func(*Training)
		what   string
		level  Level
		says   []string
	}{
		"unset key":         {nil, func(s *Training) { s.KeyEnv = "DOCTOR_TEST_UNSET" }, "key", Miss, []string{"export"}},
		"key asked for":     {func(f *trainer) { f.key = "tml-1" }, nil, "key", Miss, []string{"key_env of training"}},
		"key accepted":      {func(f *trainer) { f.key = "tml-1" }, func(s *Training) { s.KeyEnv = "DOCTOR_TEST_KEY" }, "key", OK, []string{"accepted"}},
		"other dialect":     {func(f *trainer) { f.dialect = 404 }, nil, "dialect", Miss, []string{"0.25 to 0.38"}},
		"unknown base":      {nil, func(s *Training) { s.Model = "x" }, "base model", Miss, []string{"llama, sampled"}},
		"only sampled":      {nil, func(s *Training) { s.Model = "sampled" }, "base model", Miss, []string{"sampled"}},
		"flags left out":    {func(f *trainer) { f.models = []tinker.SupportedModel{{ModelName: "llama"}} }, nil, "base model", OK, nil},
		"no soft gradients": {func(f *trainer) { f.extensions = nil }, nil, tinker.ExtensionPromptEmbed, Warn, []string{"stay as they are"}},
		"not wanted":        {func(f *trainer) { f.extensions = nil }, func(s *Training) { s.SoftPrompts = false }, tinker.ExtensionPromptEmbed, OK, nil},
		"not probed":        {nil, nil, "losses", OK, []string{"--probe"}},
		"no ppo":            {func(f *trainer) { f.losses = []string{"cross_entropy"} }, probe, "losses", OK, []string{"ppo is carried by cross_entropy"}},
		"no loss":           {func(f *trainer) { f.losses = nil }, probe, "losses", Miss, []string{"ppo", "not supported"}},
		"runs once":         {nil, probe, "lost answers", OK, []string{"once"}},
		"runs twice":        {func(f *trainer) { f.twice = true }, probe, "lost answers", Warn, []string{"twice", "checkpoint"}},
		"rank":              {func(f *trainer) { f.create = 400 }, probe, "losses", Miss, []string{"cap of 8", "training.rank"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTrainer(t)
			if tc.fault != nil {
				tc.fault(f)
			}
			if tc.change == nil {
				tc.change = func(*Training) {}
			}
			want(t, f.examine(tc.change), tc.what, tc.level, tc.says...)
		})
	}
}

// Without --probe nothing is made on the server, with it the adapter is unloaded again, and the session always ends.
func TestTrainingIsLeftAsItWas(t *testing.T) {
	f := newTrainer(t)
	f.examine()
	if calls := strings.Join(f.seen, " "); strings.Contains(calls, "create_model") || !strings.HasSuffix(calls, "/finish") {
		t.Errorf("%s", calls)
	}
	f = newTrainer(t)
	f.examine(func(s *Training) { s.Probe = true })
	if calls := strings.Join(f.seen, " "); !strings.Contains(calls, tinker.PathUnloadModel) || !strings.HasSuffix(calls, "/finish") {
		t.Errorf("%s", calls)
	}
}
