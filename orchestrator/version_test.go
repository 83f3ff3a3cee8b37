package orchestrator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"recpie/adapters"
	"recpie/clients/tgi"
	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/faultproxy/fakefleet"
	"recpie/internal/safetensors"
	"recpie/internal/softrow"
	"recpie/prompts"
)

// policyVersion writes a version with an adapter whose B holds b and, for users, soft prompts of one value each.
func policyVersion(t *testing.T, number int, b float32, users []string) *adapters.Version {
	t.Helper()
	lora := t.TempDir()
	if err := os.WriteFile(filepath.Join(lora, adapters.ConfigFile), []byte(`{"peft_type":"LORA","r":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	err := safetensors.WriteFile(filepath.Join(lora, adapters.WeightsFile), nil, []safetensors.Tensor{
		safetensors.F32("x.lora_A.weight", []int64{1, 1}, []float32{1}), safetensors.F32("x.lora_B.weight", []int64{1, 1}, []float32{b}),
	})
	if err != nil {
		t.Fatal(err)
	}
	var soft *adapters.SoftPrompt
	if users != nil {
		table := make([]float32, len(users))
		for i := range table {
			table[i] = float32(i+1) / 4
		}
		p, err := adapters.NewSoftPrompt(softrow.Projection{Rows: 1, Hidden: 2, Dim: 1, Norm: 1, W: []float32{1, .5}, B: []float32{-.5, .25}}, table)
		if err != nil {
			t.Fatal(err)
		}
		if soft, err = p.Named(users); err != nil {
			t.Fatal(err)
		}
	}
	s, err := adapters.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Write(number, adapters.Lineage{Run: "r", Base: "b"}, lora, soft)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A row's identity changes with everything that determines the answer: base model, adapter, soft prompts, and nothing else, so that the
// same version under another number is the same author.
func TestVersionsAreAuthorsByTheirContent(t *testing.T) {
	w := workspace(t, restaurants(t))
	users := w.Data.Users
	base := Author{Model: "base", Digest: "base b"}
	other := Author{Model: "base", Digest: "base c"}
	full := policyVersion(t, 1, .5, users)
	of := func(b Author, v *adapters.Version, soft bool) Author {
		t.Helper()
		who, unknown, err := VersionAuthor(b, v, soft, users)
		if err != nil || unknown != 0 {
			t.Fatal(unknown, err)
		}
		return who
	}
	authors := []Author{base, of(base, full, true), of(base, full, false), of(other, full, true), of(base, policyVersion(t, 1, .25, users), true),
		of(base, policyVersion(t, 1, .5, slices.Concat(users[1:], users[:1])), true)}
	for _, rec := range []int32{w.Split.Train[0], w.Split.Test[0]} {
		seen := map[[32]byte]int{}
		for i, who := range authors {
			b := Batch{Writer: Writer{Work: w, Model: generatorFunc(nil), MaxTokens: 9}, Author: who}
			for in, err := range b.Inputs(Asks([]int32{rec})) {
				if err != nil {
					t.Fatal(err)
				}
				if j, taken := seen[in.Identity]; taken {
					t.Errorf("record %d: authors %d and %d have one identity", rec, j, i)
				}
				seen[in.Identity] = i
			}
		}
	}
	if same := of(base, policyVersion(t, 9, .5, users), true); same.Digest != authors[1].Digest || same.Model == authors[1].Model {
		t.Errorf("the same content under another number: %+v", same)
	}
	if bare := of(base, policyVersion(t, 1, .5, nil), true); bare.Soft != nil || bare.Digest != authors[2].Digest {
		t.Errorf("a version without soft prompts: %+v", bare)
	}

	// the users of the data stand in another order now, and one is new
	mixed := append([]string{"newcomer"}, users...)
	slices.Reverse(mixed)
	who, unknown, err := VersionAuthor(base, full, true, mixed)
	if err != nil || unknown != 1 {
		t.Fatal(unknown, err)
	}
	for i, id := range mixed {
		got, k, err := who.Soft(int32(i))
		want := []float32(nil)
		if at := slices.Index(users, id); at >= 0 {
			want, _, _ = authors[1].Soft(int32(at))
		} else {
			p, _ := full.SoftPrompt()
			want, _ = p.Rows(-1)
		}
		if err != nil || k != 1 || !slices.Equal(got, want) {
			t.Errorf("%s: rows %v, want %v (%v)", id, got, want, err)
		}
	}
}

// A server that restarts under traffic forgets the version: it is put back once per restart, and every answer is the version's.
func TestGuardPutsTheVersionBack(t *testing.T) {
	var server atomic.Pointer[fakefleet.Server]
	fresh := func() { server.Store(fakefleet.New(fakefleet.Config{Model: "base"})) }
	fresh()
	var loads atomic.Int32
	ts := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "load_lora_adapter") {
			loads.Add(1)
		}
		server.Load().ServeHTTP(rw, r)
	}))
	defer ts.Close()
	client, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: ts.URL, Attempts: 1, MaxConcurrent: 64}, Model: "base"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	v := policyVersion(t, 1, .5, nil)
	a := &adapters.Assurance{Version: v, ServerDir: "/srv/adapters", Base: "base"}
	replica := Replica{ID: ts.URL, Client: client, Prompt: []int32{1, 2, 3}}
	guard := &Guard{Model: v.Name, Assure: func(ctx context.Context) error { return a.Assure(ctx, "vllm", replica) }}
	s := VLLM{Client: client, Guard: guard}
	r := Request{Model: v.Name, Text: "Why?", N: 1, MaxTokens: 8}
	first, err := s.Generate(t.Context(), r) // it was never loaded
	if err != nil {
		t.Fatal(err)
	}
	r.Model = "base"
	if bare, err := s.Generate(t.Context(), r); err != nil || slices.Equal(bare.Choices[0].Tokens, first.Choices[0].Tokens) {
		t.Fatalf("the base model answers as the version does (%v)", err)
	}
	r.Model = v.Name
	const restarts = 6
	var mu sync.Mutex
	for range restarts {
		fresh()
		var g errgroup.Group
		for range 40 {
			g.Go(func() error {
				got, err := s.Generate(t.Context(), r)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && !slices.Equal(got.Choices[0].Tokens, first.Choices[0].Tokens) {
					t.Error("an answer of something else than the version")
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if n := loads.Load(); n < 1+restarts || n > 1+4*restarts {
		t.Errorf("the version was loaded %d times for %d restarts: requests should share it", n, restarts)
	}
	fresh()
	a.ServerDir = "/does-not-exist"
	if _, err := s.Generate(t.Context(), r); fault.ClassOf(err) != fault.Endpoint {
		t.Errorf("a version that cannot be put back: %v (%v)", err, fault.ClassOf(err))
	}
	r.Model = "policy-v000009-00000000"
	if _, err := s.Generate(t.Context(), r); !vllm.IsUnknownModel(err) {
		t.Errorf("another version than the one that is guarded: %v", err)
	}
}

// On TGI the version must be there from the start; its soft prompts travel in words.
func TestVersionOnTGI(t *testing.T) {
	w := workspace(t, restaurants(t))
	v := policyVersion(t, 1, .5, w.Data.Users)
	server := tgitest.New(t, tgitest.Options{Adapters: []string{v.Name}, MaxInput: 8000, MaxTotal: 9000})
	replica := func(names ...string) TGIReplica {
		c, err := tgi.New(tgi.Config{Settings: transport.Settings{BaseURL: server.URL, Attempts: 1}, Model: "base", Adapters: names})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return TGIReplica{Server: TGI{Client: c}, Text: "Why?"}
	}
	a := &adapters.Assurance{Version: v, ServerDir: "/srv", Base: "base"}
	if err := a.Assure(t.Context(), "tgi", replica()); fault.ClassOf(err) != fault.Fatal || !strings.Contains(fault.HintOf(err), "--lora-adapters "+v.Name+"=/srv/"+v.Name) {
		t.Errorf("a server without the version: %v (%s)", err, fault.HintOf(err))
	}
	r := replica(v.Name)
	if err := a.Assure(t.Context(), "tgi", r); err != nil {
		t.Fatal(err)
	}
	who, _, err := VersionAuthor(Author{Model: "base", Digest: "base b"}, v, true, w.Data.Users)
	if err != nil {
		t.Fatal(err)
	}
	writer := Writer{Work: w, Model: r.Server, MaxTokens: 4}
	rec := w.Split.Test[0]
	q, err := writer.question(rec, prompts.Positive, who)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.answer(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	texts := sentTexts(t, server)
	if last := texts[len(texts)-1]; !strings.HasPrefix(last, w.Final.Profile(rec)+"\n") {
		t.Errorf("the prompt does not begin with the profile: %.80q", last)
	}
	// a server that is said to have the version and has not answers with its base model: TGI does so without a word
	bare := tgitest.New(t, tgitest.Options{MaxInput: 8000, MaxTotal: 9000})
	server = bare
	if err := a.Assure(t.Context(), "tgi", replica(v.Name)); err == nil || !strings.Contains(err.Error(), "base model") {
		t.Errorf("a server that lacks the version: %v", err)
	}
}
