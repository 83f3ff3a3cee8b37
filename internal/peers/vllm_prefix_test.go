//go:build peers

package peers

import (
	"context"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/dataset"
	"recpie/internal/tokenizer"
	"recpie/orchestrator"
	"recpie/prompts"
)

// What the prefix test asks for: all prompts of these users' candidates, none of which they have rated, so that a user's history stands still.
const (
	prefixUsers      = 24
	prefixCandidates = 10
	prefixInFlight   = 32
	longHistory      = 40
	// The block size is the smallest that this CPU build takes; GPUs have 16 by default. Each server's cache takes 20,000 tokens: more than
	// what is in flight, and far less than all prompts hold once what they share is counted once, so that what is not used again soon is
	// lost, as on a server with many users.
	prefixBlock, prefixBlocks = "32", "640"
)

// twoServers are real servers with small caches, and the pool over them as a run makes it.
type twoServers struct {
	servers [2]*vllmServer
	clients [2]*vllm.Client
	fleet   orchestrator.Fleet
}

func startTwo(t *testing.T) *twoServers {
	t.Helper()
	two := &twoServers{}
	var endpoints []pool.Endpoint[orchestrator.Server]
	for i := range two.servers {
		// Dev mode has the route that empties the cache between two measurements.
		s := startVLLM(t, "writer", []string{"VLLM_SERVER_DEV_MODE=1"}, "--max-model-len", "2048", "--block-size", prefixBlock, "--num-gpu-blocks-override", prefixBlocks)
		c, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: s.url}, Model: "writer"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		two.servers[i], two.clients[i] = s, c
		endpoints = append(endpoints, pool.Endpoint[orchestrator.Server]{Name: s.url, Client: orchestrator.VLLM{Client: c}, Probe: c.Health, Load: orchestrator.VLLM{Client: c}.Load})
	}
	for _, s := range two.servers {
		s.healthy()
	}
	p, err := pool.New(pool.Settings{MaxInFlight: prefixInFlight}, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	two.fleet.Pool = p
	return two
}

// asked is one prompt, its two parts apart.
type asked struct{ shared, instruction string }

// candidatePrompts renders both prompts of every candidate of every user, with so much of their history.
func candidatePrompts(t *testing.T, ds *dataset.Dataset, history int) (all []asked) {
	t.Helper()
	rated := map[dataset.Pair]bool{}
	count := make([]int, len(ds.Users))
	for _, rec := range ds.Records {
		rated[dataset.Pair{User: rec.User, Item: rec.Item}] = true
		count[rec.User]++
	}
	rng := rand.New(rand.NewPCG(9, 1))
	var pairs []dataset.Pair
	users := 0
	for _, u := range rng.Perm(len(ds.Users)) {
		if users == prefixUsers {
			break
		}
		if count[u] < longHistory {
			continue
		}
		users++
		for n := 0; n < prefixCandidates; {
			p := dataset.Pair{User: int32(u), Item: int32(rng.IntN(len(ds.Items)))}
			if !rated[p] {
				rated[p] = true
				pairs = append(pairs, p)
				n++
			}
		}
	}
	set := prompts.DefaultSettings()
	set.History = history
	with, recs, err := ds.WithCandidates(pairs)
	if err != nil {
		t.Fatal(err)
	}
	w, err := orchestrator.PrepareData(t.Context(), with, nil, orchestrator.DataSettings{MinRecords: 5, Seed: 1, Prompts: set, TextOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		for _, pol := range prompts.Polarities {
			p, err := w.SideOf(r).Renderer.Render(r, pol)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, asked{p.Text[:p.Shared], p.Text[p.Shared:]})
		}
	}
	return all
}

// shares is how a way of asking used the caches of both servers.
type shares struct {
	queries, hits float64
	perServer     [2]float64 // tokens
}

func (s shares) hit() float64      { return s.hits / s.queries }
func (s shares) computed() float64 { return 1 - s.hit() }

// measure asks for all texts in their order, with empty caches, and reads what the servers counted.
func (two *twoServers) measure(t *testing.T, texts []string, ask func(ctx context.Context, n int, r orchestrator.Request) error) (s shares) {
	t.Helper()
	var before [2][2]float64
	for i, c := range two.clients {
		resp, err := http.Post(two.servers[i].url+"/reset_prefix_cache", "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("the cache was not emptied: %s", resp.Status)
		}
		before[i][0], before[i][1] = counted(t, c)
	}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(prefixInFlight)
	for n, text := range texts {
		g.Go(func() error { return ask(ctx, n, orchestrator.Request{Text: text, N: 1, MaxTokens: 8}) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, c := range two.clients {
		queries, hits := counted(t, c)
		s.perServer[i] = queries - before[i][0]
		s.queries += s.perServer[i]
		s.hits += hits - before[i][1]
	}
	return s
}

// atBest is what must be computed of texts that are asked for in their order with a cache that forgets nothing, token by token and in
// whole blocks, as a share.
func atBest(t *testing.T, texts []string) (token, block float64) {
	t.Helper()
	tok, err := tokenizer.Load(filepath.Join(need(t, "RECPIE_VLLM_MODELS"), "writer", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(prefixBlock)
	if err != nil {
		t.Fatal(err)
	}
	var before [][]int32
	sent, found, whole := 0, 0, 0
	for _, text := range texts {
		ids := tok.Encode("<|bos|><|user|>"+text+"<|end|><|assistant|>", false)
		most := 0
		for _, b := range before {
			n := 0
			for n < min(len(b), len(ids)-1) && b[n] == ids[n] {
				n++
			}
			most = max(most, n)
		}
		before = append(before, ids)
		sent, found, whole = sent+len(ids), found+most, whole+most/size*size
	}
	return 1 - float64(found)/float64(sent), 1 - float64(whole)/float64(sent)
}

// The choice of the server by the beginning of a prompt raises what the servers find in their prefix caches, by their own counters. What the
// order of a prompt's parts does is reported, not demanded: with n candidates of a user, ours computes history + n·(candidate + 2·instruction), the
// instruction first 2·history + 2n·candidate, which is less where candidates are short. With histories that are longer than what follows them, a third of the prompt tokens sent is
// computed at most.
func TestVLLMPrefixShares(t *testing.T) {
	ds := movieLens(t)
	all := candidatePrompts(t, ds, prompts.DefaultSettings().History)
	two := startTwo(t)
	ours, paper := make([]string, len(all)), make([]string, len(all))
	for i, a := range all {
		ours[i], paper[i] = a.shared+a.instruction, a.instruction+"\n"+a.shared
	}
	var long []string
	for _, a := range candidatePrompts(t, ds, longHistory) {
		long = append(long, a.shared+a.instruction)
	}
	shuffled := make([]string, len(ours))
	for i, k := range rand.New(rand.NewPCG(3, 3)).Perm(len(ours)) {
		shuffled[i] = ours[k]
	}
	routed := func(ctx context.Context, _ int, r orchestrator.Request) error {
		_, err := two.fleet.Generate(ctx, r)
		return err
	}
	inTurn := func(ctx context.Context, n int, r orchestrator.Request) error {
		_, err := orchestrator.VLLM{Client: two.clients[n%2]}.Generate(ctx, r)
		return err
	}
	drawn := func(ctx context.Context, n int, r orchestrator.Request) error {
		_, err := orchestrator.VLLM{Client: two.clients[rand.New(rand.NewPCG(5, uint64(n))).IntN(2)]}.Generate(ctx, r)
		return err
	}
	alone := func(ctx context.Context, _ int, r orchestrator.Request) error {
		_, err := orchestrator.VLLM{Client: two.clients[0]}.Generate(ctx, r)
		return err
	}
	got := map[string]shares{}
	for _, m := range []struct {
		name  string
		texts []string
		ask   func(context.Context, int, orchestrator.Request) error
	}{
		{"our order, routed", ours, routed},
		{"our order, in turn", ours, inTurn},
		{"our order, drawn", ours, drawn},
		{"instruction first, routed", paper, routed},
		{"instruction first, drawn", paper, drawn},
		{"our order shuffled, routed", shuffled, routed},
		{"our order shuffled, drawn", shuffled, drawn},
		{"our order, one server", ours, alone},
		{"long histories, routed", long, routed},
		{"long histories, drawn", long, drawn},
	} {
		s := two.measure(t, m.texts, m.ask)
		got[m.name] = s
		t.Logf("%-28s %5.1f%% found, %5.1f%% computed of %.0f prompt tokens (%.0f and %.0f on the servers)", m.name, 100*s.hit(), 100*s.computed(), s.queries, s.perServer[0], s.perServer[1])
	}
	both := got["our order, routed"]
	t.Logf("%d prompts of %d users, %.0f tokens each", len(all), prefixUsers, both.queries/float64(len(all)))
	for name, texts := range map[string][]string{"our order": ours, "instruction first": paper, "long histories": long} {
		token, block := atBest(t, texts)
		t.Logf("%s: %.1f%% computed at best, %.1f%% in whole blocks", name, 100*token, 100*block)
	}
	for _, st := range two.fleet.Pool.Stats() {
		t.Logf("%s: %d calls, %d spilled", st.Name, st.Calls, st.Spills)
	}
	if c := got["long histories, routed"].computed(); c > 1./3 {
		t.Errorf("with long histories %.3f of the prompt tokens sent are computed, want a third at most", c)
	}
	for _, other := range []string{"our order, in turn", "our order, drawn"} {
		if both.hit() <= got[other].hit() {
			t.Errorf("%s finds %.3f, routed %.3f", other, got[other].hit(), both.hit())
		}
	}
}
