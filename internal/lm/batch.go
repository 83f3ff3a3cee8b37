package lm

import (
	"math"

	"recpie/internal/torch"
)

// batch is a set of jobs computed together: one pass over the distinct parts of their prompts, the scores that were asked for, then
// token by token for all continuations.
type batch struct {
	e    *Engine
	net  *network
	jobs []*job

	plan                      *plan
	sent, computed, generated int64
}

// scoreRows bounds the rows of logits that are in memory at once.
const scoreRows = 1024

func (b *batch) compute() error {
	soft := newSoftTable(b.net.cfg.HiddenSize)
	seqs := make([][]int64, len(b.jobs))
	for i, j := range b.jobs {
		seqs[i] = promptKeys(j.req, soft)
		b.sent += int64(len(seqs[i]))
		j.res = &GenResult{}
	}
	b.plan = newPlan(seqs, !b.e.opt.NoSharing)
	b.computed = int64(b.plan.computed())
	b.countCached()
	want := newWanted(b.plan)
	last := make([][2]int32, len(b.jobs))
	scored := make([][][2]int32, len(b.jobs))
	pooled := make([][][2]int32, len(b.jobs))
	for i, j := range b.jobs {
		n := len(j.req.Prompt)
		if j.rows > 0 {
			last[i] = want.add(b.plan.index[i], n-1)
		}
		if j.req.PromptLogprobs >= 0 {
			for p := max(1, j.req.PromptFrom); p < n; p++ {
				scored[i] = append(scored[i], want.add(b.plan.index[i], p-1))
			}
		}
		if j.req.Pool {
			for p := range n {
				pooled[i] = append(pooled[i], want.add(b.plan.index[i], p))
			}
		}
	}
	return b.e.b.Model.dev.NoGrad(func(s *torch.Scope) error {
		var rows *torch.Tensor
		if len(soft.data) > 0 {
			rows = s.Float32(soft.data, int64(len(soft.data)/soft.dim), int64(soft.dim))
		}
		hidden, states := b.net.forward(s, b.plan, rows, want)
		for i, j := range b.jobs {
			if j.req.PromptLogprobs >= 0 {
				b.score(s, j, hidden, want, scored[i])
			}
			if j.req.Pool {
				s.Sub(func(s *torch.Scope) {
					rows := s.Int64(want.all(pooled[i]), int64(len(pooled[i])))
					j.res.Pooled = s.Float32s(s.MeanDim(s.IndexSelect(hidden, 0, rows), 0, false))
				})
			}
		}
		if s.Err() != nil {
			return s.Err()
		}
		return b.decode(s, hidden, states, want, last)
	})
}

// countCached tells each job how many of its positions an earlier one had computed as well.
func (b *batch) countCached() {
	seen := map[place]bool{}
	for i, j := range b.jobs {
		for _, at := range b.plan.paths[b.plan.index[i]] {
			if nd := b.plan.levels[at.level].nodes[at.row]; seen[at] {
				j.res.CachedTokens += nd.to - nd.from
			}
			seen[at] = true
		}
	}
}

// promptKeys returns the keys of a request's prompt, its soft rows entered into the table.
func promptKeys(r *GenRequest, soft *softTable) []int64 {
	keys := make([]int64, len(r.Prompt))
	for i, id := range r.Prompt {
		keys[i] = int64(id)
	}
	for _, sr := range r.Soft {
		for k := range sr.Rows {
			keys[sr.Pos+k] = soft.key(sr.Data[k*soft.dim:(k+1)*soft.dim], 0)
		}
	}
	return keys
}

// score fills in a job's prompt log probabilities. A marker has no id of the vocabulary, so its own entry stays undefined.
func (b *batch) score(s *torch.Scope, j *job, hidden *torch.Tensor, want *wanted, tickets [][2]int32) {
	n, first := len(j.req.Prompt), max(1, j.req.PromptFrom)
	res := j.res
	res.PromptLogprobs = make([]TokenLogprob, n)
	for p := range res.PromptLogprobs {
		res.PromptLogprobs[p] = TokenLogprob{ID: j.req.Prompt[p], Logprob: float32(math.NaN())}
	}
	if j.req.PromptLogprobs > 0 {
		res.PromptTop = make([][]TokenLogprob, n)
	}
	for from := 0; from < len(tickets); from += scoreRows {
		part := tickets[from:min(from+scoreRows, len(tickets))]
		idx := want.all(part)
		s.Sub(func(s *torch.Scope) {
			logp := s.Float32s(s.LogSoftmax(b.net.logits(s, s.IndexSelect(hidden, 0, s.Int64(idx, int64(len(idx))))), -1))
			if s.Err() != nil {
				return
			}
			v := b.net.cfg.VocabSize
			for i := range part {
				row, p := logp[i*v:(i+1)*v], first+from+i
				id := j.req.Prompt[p]
				if int(id) == v {
					continue
				}
				res.PromptLogprobs[p] = TokenLogprob{id, row[id], rankOf(row, id)}
				if res.PromptTop != nil {
					res.PromptTop[p] = alternatives(row, id, min(j.req.PromptLogprobs, v))
				}
			}
		})
	}
}
