package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/internal/tokenizer"
	"recpie/orchestrator"
)

// imagine makes the task's batch without dialling anybody, and returns what counts the tokens of a prompt, and its name.
func (t *task) imagine(ctx context.Context, local string) (count func(string) int, by string, err error) {
	c := t.c
	c.Training.Frozen = true
	base, path, words := c.Inference.Model, "", false
	if len(c.Inference.Endpoints) == 0 && (c.Preset == "embedded" || c.LM.Dir != "") {
		dir := c.LM.Dir
		if dir == "" {
			if dir, err = t.warmed(ctx); err != nil {
				return nil, "", err
			}
		}
		base, path = filepath.Base(dir), filepath.Join(dir, "tokenizer.json")
	}
	if !exists(path) {
		path = ""
	}
	switch {
	case t.reqs != nil: // sent as they are
	case path != "":
		err = t.w.LimitBy(filepath.Dir(path), c.Prompts.TokenBudget)
	default:
		err = t.w.Limit(c.Prompts.TokenBudget, characters{})
	}
	if err != nil {
		return nil, "", err
	}
	for _, e := range c.Inference.Endpoints {
		words = words || e.Kind == "tgi"
		if path == "" {
			path = e.Tokenizer
		}
	}
	who, _, err := t.writes(c.Inference.Model, base)
	if err == nil {
		err = t.locate(local)
	}
	if err != nil {
		return nil, "", err
	}
	t.model = who.Model
	if t.reqs != nil {
		t.calls = &orchestrator.Requests{Calls: t.reqs.call, Author: who.Digest}
	} else {
		t.batch = &orchestrator.Batch{Writer: orchestrator.Writer{Work: t.w, Model: orchestrator.Fleet{Words: words}, MaxTokens: c.Inference.MaxTokens}, Author: who}
	}
	if path == "" {
		return func(text string) int { return (len(text) + letters - 1) / letters }, fmt.Sprintf("%d letters a token", letters), nil
	}
	tok, err := tokenizer.Load(path)
	if err != nil {
		return nil, "", err
	}
	return func(text string) int { return len(tok.Encode(text, false)) }, "the model's tokenizer", nil
}

// warmed is the folder of the embedded model that the settings ask for.
func (t *task) warmed(ctx context.Context) (string, error) {
	if t.w == nil {
		if err := t.forWarmup(ctx); err != nil {
			return "", err
		}
	}
	s, err := warmupSettings(t.c)
	if err != nil {
		return "", err
	}
	return t.w.WarmupDir(s)
}

// glance looks at a row without asking anything.
func (t *task) glance(row int) (orchestrator.Look, error) {
	if t.reqs != nil {
		return t.calls.Look(int64(row))
	}
	ask, _ := t.asks.at(row)
	return t.batch.Look(ask)
}

// look opens the database of the batch if it is there, and finds the batch; both may be nil. taken tells that another batch has the name.
func (f *explaining) look(ctx context.Context, t *task) (db *queue.DB, b *queue.Batch, taken bool, err error) {
	url, name, err := f.where(t.c)
	if err != nil || url == f.db && !exists(f.db) {
		return nil, nil, false, err
	}
	if db, err = queue.Open(ctx, url, queue.Options{Observe: true}); err != nil {
		return nil, nil, false, err
	}
	all, err := db.Batches(ctx)
	for i := range all {
		if all[i].Name == name {
			b = &all[i]
		}
	}
	if b != nil && err == nil {
		var digest string
		_, digest, err = t.store(ctx, func(_ context.Context, r io.Reader) (string, error) {
			h := sha256.New()
			_, err := io.Copy(h, r)
			return hex.EncodeToString(h.Sum(nil)), err
		})
		if taken = digest != b.Digest; taken {
			b = nil
		}
	}
	if err != nil {
		_ = db.Close()
		return nil, nil, false, err
	}
	return db, b, taken, nil
}

// measured sums up what the batches of one author in a database have taken: those of requests, or those of pairs.
func measured(ctx context.Context, db *queue.DB, author string, requests bool) (sum queue.Measured, err error) {
	all, err := db.Batches(ctx)
	for _, b := range all {
		var j job
		if err != nil || json.Unmarshal(b.Settings, &j) != nil || j.Author != author || requests != (j.Data == "") {
			continue
		}
		var m queue.Measured
		m, err = db.Measure(ctx, b)
		sum.Add(m)
	}
	return sum, err
}

// sample is all rows of a small batch, and some of a large one.
func (t *task) sample() []int {
	all, n := t.rows(), t.rows()
	rng := rand.New(rand.NewPCG(uint64(t.c.Seed), 0xd41))
	if all > exactRows {
		n = sampledRows
	}
	rows := make([]int, n)
	for i := range rows {
		if rows[i] = i; n < all {
			rows[i] = rng.IntN(all)
		}
	}
	return rows
}

// survey looks at the rows, or a sample of them, and fills in how many are to be asked and what their prompts cost and their answers may. It returns
// rows that are, and how many letters their prompts have for each token.
func (t *task) survey(ctx context.Context, e *estimate, db *queue.DB, batch *queue.Batch, count func(string) int) (ask []int, perToken float64, err error) {
	rows := t.sample()
	e.Looked = len(rows)
	inputs := make([]queue.Input, len(rows))
	type size struct{ letters, tokens int }
	sizes, looks := make([]size, len(rows)), make([]orchestrator.Look, len(rows))
	step := max(1, len(rows)/countedRows)
	for i, row := range rows {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		l, err := t.glance(row)
		if err != nil {
			return nil, 0, err
		}
		if i%step == 0 && l.Reason == "" {
			sizes[i] = size{len(l.Text), count(l.Text) + l.Beside}
		}
		l.Text = "" // not kept for all
		inputs[i], looks[i] = queue.Input{Row: int64(i), Identity: l.Identity}, l
	}
	planned := batch != nil && batch.State != queue.Planning
	known := make([]bool, len(rows))
	if db != nil && !planned {
		if known, err = db.Known(ctx, inputs); err != nil {
			return nil, 0, err
		}
	}
	var reused, none, most, unbounded int
	var all, left struct{ rows, letters, tokens int }
	for i, row := range rows {
		n := min(1, sizes[i].tokens)
		all.rows, all.letters, all.tokens = all.rows+n, all.letters+sizes[i].letters, all.tokens+sizes[i].tokens
		switch {
		case known[i]:
			reused++
			continue
		case looks[i].Reason != "":
			none++
			continue
		}
		ask, most = append(ask, row), most+looks[i].Answer
		if looks[i].Unbounded {
			unbounded++
		}
		left.rows, left.letters, left.tokens = left.rows+n, left.letters+sizes[i].letters, left.tokens+sizes[i].tokens
	}
	if left.rows == 0 { // no counted prompt is among those that are left
		left = all
	}
	part := func(n int) float64 { return float64(n) * float64(t.rows()) / float64(max(len(rows), 1)) }
	e.Reused, e.NoPrompt, e.Requests, e.AnswersAtMost, e.Unbounded = part(reused), part(none), part(len(ask)), part(most), part(unbounded)
	if planned {
		s, err := db.Status(ctx, *batch)
		if err != nil {
			return nil, 0, err
		}
		e.Done, e.Reused = s.OK+s.Dead, float64(s.Reused)
		share := float64(s.Left()) / float64(max(s.Rows, 1))
		for _, v := range []*float64{&e.NoPrompt, &e.Requests, &e.AnswersAtMost, &e.Unbounded} {
			*v *= share
		}
	}
	e.PromptTokens = e.Requests * float64(left.tokens) / float64(max(left.rows, 1))
	return ask, float64(left.letters) / float64(max(left.tokens, 1)), nil
}

// probe connects as a run would and asks for some rows.
func (f *explaining) probe(ctx context.Context, t *task, rows []int, show *progress.Reporter) (p orchestrator.Probed, err error) {
	switch {
	case t.reqs != nil:
		return p, &usageError{errors.New("--probe asks for explanations of pairs: for requests give --rate, as 'recpie doctor --probe' measures it")}
	case len(rows) == 0:
		return p, &usageError{errors.New("--probe: there is no row left to ask for")}
	}
	dir, err := os.MkdirTemp("", "recpie-probe-") // of an embedded server
	if err != nil {
		return p, fault.New(fault.Fatal, "probe", err)
	}
	defer os.RemoveAll(dir)
	t.served = "" // connecting names the folder anew
	if err := t.connect(ctx, filepath.Join(dir, "lm"), versionsDir(t.c, dir), show); err != nil {
		return p, err
	}
	inFlight := t.c.Inference.Concurrency * max(1, len(t.c.Inference.Endpoints))
	rand.New(rand.NewPCG(uint64(t.c.Seed), 0xb0b)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	ask := make([]orchestrator.Ask, min(len(rows), probeRows*inFlight))
	for i := range ask {
		ask[i], _ = t.asks.at(rows[i])
	}
	return t.batch.Probe(ctx, ask, inFlight, probeTime)
}
