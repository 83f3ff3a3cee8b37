package lm

import (
	"context"
	"math"
	"slices"
	"sync"

	"recpie/internal/torch"
)

// pass is one forward or forward_backward over data. Data that begin alike are computed together (see plan).
type pass struct {
	t                                 *Trainer
	data                              []Datum
	loss                              string
	f                                 tokenLoss
	forwardOnly, only, shared, freeze bool

	table *softTable
	keys  [][]int64
	res   *PassResult
	grads [][]float32 // of the adapter, nil without any
}

// passPart is what one thread computes of a pass.
type passPart struct {
	*pass
	pl      *plan
	members []int              // the data, one for each sequence of the plan
	sums    map[string]float64 // of the metrics
	grads   [][]float32        // of the adapter, nil until there are some
	err     error
}

// passBytes bounds the activations that one part of a pass keeps for its gradient, as plan.bytes estimates them. A single datum may exceed it.
var passBytes = 768 << 20

// maxTokens returns how many positions a part of a pass takes at most when it may keep that many bytes.
func maxTokens(c Config, bytes int) int {
	return max(512, bytes/(4*c.keptFloats()*c.NumLayers))
}

func (p *pass) run(ctx context.Context) (*PassResult, error) {
	p.res = &PassResult{Logprobs: make([][]float32, len(p.data)), Metrics: map[string]float64{
		"loss:sum": 0, "targets:sum": 0, "positions:sum": 0, "positions_computed:sum": 0,
	}}
	if !p.forwardOnly {
		p.res.EmbedGrads = make([][]float32, len(p.data))
	}
	cfg := p.t.b.Model.Cfg
	p.table = newSoftTable(cfg.HiddenSize)
	p.keys = make([][]int64, len(p.data))
	order := make([]int, len(p.data))
	for i := range p.data {
		p.keys[i], order[i] = p.keysOf(i), i
	}
	order = bucketed(order, p.keys)
	workers := p.t.opt.Workers
	bytes := passBytes / workers
	budget := evenBudget(order, p.keys, maxTokens(cfg, bytes), workers)
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var wave []*passPart
		for len(order) > 0 && len(wave) < workers {
			pl, n := fittingPlan(cfg, order, p.keys, budget, bytes)
			wave = append(wave, &passPart{pass: p, pl: pl, members: order[:n], sums: map[string]float64{}})
			order = order[n:]
		}
		var wg sync.WaitGroup
		for _, part := range wave[1:] {
			wg.Go(func() { part.err = part.compute() })
		}
		wave[0].err = wave[0].compute()
		wg.Wait()
		for _, part := range wave { // in their order, so that sums are the same every time
			if part.err != nil {
				return nil, part.err
			}
			for name, v := range part.sums {
				p.res.Metrics[name] += v
			}
			if p.grads == nil {
				p.grads = part.grads
			} else {
				addAll(p.grads, part.grads)
			}
		}
	}
	p.ratios()
	return p.res, nil
}

// leastBucket is how many positions a part has at least before the length of the next family ends it: below that, one wider batch is faster.
const leastBucket = 2048

// bucketed orders sequences for the parts of a pass: those that begin alike stay together, so that their beginning is computed once, and such families
// follow each other by their length, so that a part holds runs of about one length and pads little.
func bucketed(order []int, keys [][]int64) []int {
	order = slices.Clone(order)
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(keys[a], keys[b]) })
	type family struct {
		members []int
		longest int
	}
	var all []family
	for n, i := range order {
		if n == 0 || commonPrefix(keys[order[n-1]], keys[i]) < minSaved {
			all = append(all, family{})
		}
		f := &all[len(all)-1]
		f.members, f.longest = append(f.members, i), max(f.longest, len(keys[i]))
	}
	slices.SortStableFunc(all, func(a, b family) int { return a.longest - b.longest })
	order = order[:0]
	for _, f := range all {
		order = append(order, f.members...)
	}
	return order
}

// addAll adds rows of numbers; absent ones count as zeros.
func addAll(to, from [][]float32) {
	for i, row := range from {
		for j, v := range row {
			to[i][j] += v
		}
	}
}

// evenBudget returns how many positions a part takes so that workers are busy to the end.
func evenBudget(order []int, keys [][]int64, most, workers int) int {
	total := 0
	for n, i := range order {
		total += len(keys[i])
		if n > 0 {
			total -= commonPrefix(keys[order[n-1]], keys[i])
		}
	}
	waves := (total + most*workers - 1) / (most * workers)
	return min(most, total/max(1, waves*workers)+1)
}

// fittingPlan plans the first n of the sequences that order names, sorted by their keys: as many as the budget of positions and the bytes allow, at
// least one.
func fittingPlan(c Config, order []int, keys [][]int64, budget, bytes int) (pl *plan, n int) {
	tokens := 0
	for n < len(order) {
		k := keys[order[n]]
		add := len(k)
		if n > 0 {
			if add -= commonPrefix(keys[order[n-1]], k); tokens+add/2 > budget { // to the nearer side
				break
			}
			if tokens >= leastBucket && len(k)-add < minSaved && 2*len(k) > 3*len(keys[order[0]]) {
				break // the next bucket: among much shorter ones it would pad them all
			}
		}
		tokens += add
		n++
	}
	for {
		seqs := make([][]int64, n)
		for i := range seqs {
			seqs[i] = keys[order[i]]
		}
		pl = newPlan(seqs, true)
		need := pl.bytes(c)
		if need <= bytes || n == 1 {
			return pl, n
		}
		n = max(1, min(n-1, n*bytes/need))
	}
}

func commonPrefix(a, b []int64) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// keysOf returns datum i's keys. Its soft rows are its own unless gradients may be shared.
func (p *pass) keysOf(i int) []int64 {
	table := p.table
	d := &p.data[i]
	keys := make([]int64, len(d.Tokens))
	for j, id := range d.Tokens {
		keys[j] = int64(id)
	}
	owner := i + 1
	if p.shared {
		owner = 0
	}
	for k, pos := range d.EmbedPos {
		keys[pos] = table.key(d.Embeds[k*table.dim:(k+1)*table.dim], owner)
	}
	return keys
}

// scoredTarget is one target to be scored: the datum, its position and where its hidden state will be.
type scoredTarget struct {
	datum, pos int
	ticket     [2]int32
}

// compute computes the part.
func (p *passPart) compute() error {
	pl, members, keys, table := p.pl, p.members, p.keys, p.table
	for _, i := range members {
		p.res.Logprobs[i] = make([]float32, len(keys[i]))
		p.sums["positions:sum"] += float64(len(keys[i]))
	}
	p.sums["positions_computed:sum"] += float64(pl.computed())
	want := newWanted(pl)
	var targets []scoredTarget
	for n, i := range members {
		for j := range keys[i] {
			if !p.only || p.data[i].counts(j, p.loss) {
				targets = append(targets, scoredTarget{i, j, want.add(pl.index[n], j)})
			}
		}
	}
	if len(targets) == 0 {
		p.softGrads(nil)
		return nil
	}
	dev := p.t.b.Model.dev
	scope := dev.Do
	if p.forwardOnly {
		scope = dev.NoGrad
	}
	return scope(func(s *torch.Scope) error {
		var soft *torch.Tensor
		if len(table.data) > 0 {
			soft = s.Float32(table.data, int64(len(table.data)/table.dim), int64(table.dim))
			if !p.forwardOnly {
				s.RequireGrad(soft)
			}
		}
		net, leaves := p.t.network(s, p.freeze, p.dropout())
		var hidden *torch.Tensor
		var t *tape
		if p.checkpoint(pl) {
			hidden, t = net.record(s, pl, soft, want)
		} else {
			hidden = net.forward(s, pl, soft, want)
		}
		top := s.Detach(hidden)
		if !p.forwardOnly {
			s.RequireGrad(top)
		}
		for from := 0; from < len(targets) && s.Err() == nil; from += scoreRows {
			s.Sub(func(s *torch.Scope) { p.score(s, net, top, want, targets[from:min(from+scoreRows, len(targets))]) })
		}
		if p.forwardOnly || s.Err() != nil {
			return s.Err()
		}
		g := s.Grad(top)
		if g == nil || p.freeze && soft == nil { // no target moves the loss, or nothing is trained
			p.softGrads(nil)
			return nil
		}
		if t != nil {
			t.backward(s, g)
		} else if hidden.RequiresGrad() { // not where the soft rows are of other parts alone
			s.Backward(s.Sum(s.Mul(hidden, s.Detach(g))))
		}
		if !p.freeze {
			p.collect(s, leaves)
		}
		var rows []float32
		if soft != nil {
			if sg := s.Grad(soft); sg != nil {
				rows = s.Float32s(sg)
			}
		}
		if s.Err() != nil {
			return s.Err()
		}
		p.softGrads(rows)
		return nil
	})
}

// dropout is that of the adapter's inputs in this pass.
func (p *pass) dropout() float64 {
	if p.forwardOnly {
		return 0
	}
	return p.t.cfg.Dropout
}

// checkpoint reports whether the layers are to be computed again for the gradient: when asked for, and for a single datum whose activations are more
// than a pass should keep. Dropout would be drawn anew.
func (p *pass) checkpoint(pl *plan) bool {
	return !p.forwardOnly && p.t.cfg.Dropout == 0 && (p.t.opt.Checkpointing || pl.bytes(p.t.b.Model.Cfg) > passBytes)
}

// score computes log probabilities and losses of some targets and sends the gradient back to the hidden states.
func (p *passPart) score(s *torch.Scope, net *network, hidden *torch.Tensor, want *wanted, targets []scoredTarget) {
	n := int64(len(targets))
	idx, ids := make([]int64, n), make([]int64, n)
	for k, t := range targets {
		idx[k], ids[k] = want.row(t.ticket), p.data[t.datum].Targets[t.pos]
	}
	lp := s.LogProbOf(net.logits(s, s.IndexSelect(hidden, 0, s.Int64(idx, n))), s.Int64(ids, n))
	values := s.Float32s(lp)
	if s.Err() != nil {
		return
	}
	slope, moves := make([]float32, n), false
	for k, t := range targets {
		d := &p.data[t.datum]
		p.res.Logprobs[t.datum][t.pos] = values[k]
		if !d.counts(t.pos, p.loss) {
			continue
		}
		v, g := p.f(d, t.pos, float64(values[k]))
		p.sums["loss:sum"] += v
		p.sums["targets:sum"]++
		slope[k] = float32(g)
		moves = moves || g != 0
	}
	if moves && !p.forwardOnly {
		s.Backward(s.Sum(s.Mul(lp, s.Float32(slope, n))))
	}
}

// collect moves the adapter's gradients out of autograd.
func (p *passPart) collect(s *torch.Scope, leaves map[string]*torch.Tensor) {
	if p.grads == nil {
		p.grads = make([][]float32, len(p.t.specs))
	}
	for i, sp := range p.t.specs {
		w := leaves[sp.name]
		if g := s.Grad(w); g != nil {
			data := s.Float32s(g)
			if p.grads[i] == nil {
				p.grads[i] = data
			} else {
				for j, v := range data {
					p.grads[i][j] += v
				}
			}
		}
		s.ZeroGrad(w)
	}
}

// softGrads hands the gradients of the table's rows to the data they belong to; nil stands for zeros.
func (p *passPart) softGrads(rows []float32) {
	if p.forwardOnly {
		return
	}
	members, keys, table := slices.Clone(p.members), p.keys, p.table
	slices.Sort(members) // "the first" of those that share is the first in the request
	given := map[int64]bool{}
	for _, i := range members {
		d := &p.data[i]
		if len(d.EmbedPos) == 0 {
			continue
		}
		g := make([]float32, len(d.Embeds))
		for k, pos := range d.EmbedPos {
			row := ^keys[i][pos]
			if rows != nil && !given[row] {
				copy(g[k*table.dim:(k+1)*table.dim], rows[int(row)*table.dim:])
			}
			given[row] = true
		}
		p.res.EmbedGrads[i] = g
	}
}

// ratios adds what a policy update is watched by: over targets with an advantage, the mean of logprobs − lp (an estimate of the
// divergence from the sampler) and, for ppo, the share without a gradient because the ratio is clipped.
func (p *pass) ratios() {
	if p.loss == "cross_entropy" {
		return
	}
	n, kl, far := 0.0, 0.0, 0.0
	for i := range p.data {
		d := &p.data[i]
		for j := range d.Tokens {
			if d.counts(j, p.loss) {
				diff := float64(p.res.Logprobs[i][j]) - float64(d.Logprobs[j])
				n, kl = n+1, kl-diff
				if _, g := p.f(d, j, float64(p.res.Logprobs[i][j])); g == 0 {
					far++
				}
			}
		}
	}
	if n = math.Max(n, 1); p.loss == "ppo" {
		p.res.Metrics["clip_fraction:mean"] = far / n
	}
	p.res.Metrics["kl:mean"] = kl / n
}
