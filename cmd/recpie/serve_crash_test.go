package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"recpie/internal/lm"
	"recpie/internal/tokenizer"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// "recpie lm serve" dies at every place of an optimizer step's way to the disk and is started again over its folder. A client that sends again
// what got no answer, and the gradients that it is told are lost, ends with the weights of an unbroken run, and no step is applied twice.
func TestKilledTrainingServer(t *testing.T) {
	dir := t.TempDir()
	tok, err := tokenizer.TrainBPE(strings.Lines(strings.Repeat("one two three four five six\n", 30)), tokenizer.TrainOptions{VocabSize: 280, Special: lm.SpecialTokens(), MinFrequency: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 64, HiddenSize: 16, NumLayers: 1, NumHeads: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, err := lm.NewBundle("small", m, tok)
	if err == nil {
		err = b.SaveDir(filepath.Join(dir, "small"))
	}
	if err != nil {
		t.Fatal(err)
	}
	want := (&killedServer{t: t, dir: dir, state: "whole"}).train()
	for _, place := range []string{"lmserver.keep.data:1", "lmserver.keep.data:3", "lmserver.keep.state:1", "lmserver.keep.state:4", "lmserver.keep.state:5", "lmserver.keep.state:7"} {
		t.Run(place, func(t *testing.T) {
			k := &killedServer{t: t, dir: dir, state: strings.ReplaceAll(place, ":", "-"), place: place}
			if got := k.train(); !slices.Equal(got, want) {
				t.Errorf("log probabilities %v, want %v", got, want)
			}
			if k.starts != 2 {
				t.Errorf("%d starts, want 2: the server did not die", k.starts)
			}
		})
	}
}

// killedServer is a client of a server that may die.
type killedServer struct {
	t                 *testing.T
	dir, state, place string
	cmd               *exec.Cmd
	url               string
	starts            int
	model             string
	seq               int32
}

func (k *killedServer) start() {
	env := []string{}
	if k.starts++; k.starts == 1 && k.place != "" {
		env = append(env, "RECPIE_FAILPOINT="+k.place)
	}
	k.cmd = child(context.Background(), k.dir, env, "lm", "serve", "--model", "small", "--listen", "127.0.0.1:0", "--adapter-root", "off", "--state", k.state)
	errs, err := k.cmd.StderrPipe()
	if err == nil {
		err = k.cmd.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), " on http://"); ok {
			k.url = "http://" + strings.Fields(after)[0]
			go func() { _, _ = io.Copy(io.Discard, errs) }()
			return
		}
	}
	k.t.Fatal("the server ended before it served")
}

// post returns the answer's body, nil when the server died.
func (k *killedServer) post(path, kind string, body []byte) []byte {
	req, err := http.NewRequest("POST", k.url+path, bytes.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	resp, err := http.DefaultClient.Do(req.WithContext(ctx))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	if resp.StatusCode >= 300 {
		k.t.Fatalf("%s: %d %s", path, resp.StatusCode, out)
	}
	return out
}

// ask sends a request under one number until it has an answer, starting the server again when it dies.
func (k *killedServer) ask(path, kind string, body []byte) []byte {
	for range 5 {
		var f tinker.Future
		if out := k.post(path, kind, body); out != nil {
			if err := json.Unmarshal(out, &f); err != nil {
				k.t.Fatal(err)
			}
			if f.RequestID == "" {
				return out // no future
			}
			poll, _ := json.Marshal(map[string]string{"request_id": f.RequestID})
			for {
				if out = k.post(tinker.PathRetrieveFuture, "application/json", poll); out == nil || !bytes.Contains(out, []byte(`"try_again"`)) {
					break
				}
			}
			if out != nil {
				return out
			}
		}
		_ = k.cmd.Wait()
		k.start()
	}
	k.t.Fatal("no answer after five tries")
	return nil
}

func (k *killedServer) json(path string, v map[string]any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		k.t.Fatal(err)
	}
	return k.ask(path, "application/json", body)
}

func (k *killedServer) pass(forwardOnly bool) []byte {
	k.seq++
	body, err := proto.Marshal(&pb.ForwardBackwardRequest{ModelId: k.model, SeqId: k.seq, LossFn: tinker.LossCrossEntropy, ForwardOnly: forwardOnly,
		Data: []*pb.Datum{{ModelInput: []*pb.Chunk{tinker.Chunk([]int32{10, 11, 12})}, LossFnInputs: map[string]*pb.Tensor{
			tinker.InputTargets: tinker.IntTensor([]int64{11, 12, 13}), tinker.InputWeights: tinker.FloatTensor([]float32{1, 1, 1})}}}})
	if err != nil {
		k.t.Fatal(err)
	}
	return k.ask(tinker.PathForwardBackward, "application/x-protobuf", body)
}

// train makes four steps and returns the log probabilities after them.
func (k *killedServer) train() []float32 {
	k.start()
	defer func() { _ = k.cmd.Process.Kill(); _ = k.cmd.Wait() }()
	var session tinker.CreateSessionResponse
	if err := json.Unmarshal(k.json(tinker.PathCreateSession, map[string]any{}), &session); err != nil {
		k.t.Fatal(err)
	}
	k.model = session.SessionID + ":train:0"
	k.json(tinker.PathCreateModel, map[string]any{"session_id": session.SessionID, "model_seq_id": 0, "base_model": "small",
		"lora_config": map[string]any{"rank": 4, "seed": 7, "train_attn": true, "train_mlp": true}})
	for done := 0; done < 4; {
		k.pass(false)
		k.seq++
		answer := string(k.json(tinker.PathOptimStep, map[string]any{"model_id": k.model, "seq_id": k.seq, "adam_params": map[string]any{"learning_rate": 0.01}}))
		switch {
		case strings.Contains(answer, "grad_norm"):
			done++
		case !strings.Contains(answer, "were lost when the server was restarted"):
			k.t.Fatalf("step %d: %s", done+1, answer)
		}
	}
	var out pb.ForwardBackwardOutput
	if err := proto.Unmarshal(k.pass(true), &out); err != nil {
		k.t.Fatal(err)
	}
	rows, err := tinker.Unbatch(out.LossFnOutputs[0].Fields[tinker.OutputLogprobs], 1)
	if err != nil {
		k.t.Fatal(fmt.Errorf("log probabilities: %w", err))
	}
	return rows[0]
}
