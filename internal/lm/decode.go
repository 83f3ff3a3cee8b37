package lm

import (
	"math"
	"slices"

	"recpie/internal/torch"
)

// row is one continuation under way.
type row struct {
	job    *job
	choice *Choice
	draw   *sampler
	stops  *stopFinder
	length int // positions so far: prompt and tokens
	first  int // row of the first logits
	leaf   place
	next   int32 // token to be fed
	done   bool
}

// cache holds the keys and values of all rows, allocated once for the longest continuation. Every row writes its next position into
// the same slot: slots that are not a row's own (padding of its prompt) are hidden by the bias.
type cache struct {
	k, v []*torch.Tensor // per layer [rows, key heads, slots, head]
	bias *torch.Tensor   // [rows, 1, 1, slots], 0 or -Inf
	used int             // slots filled
}

func (c *cache) free() {
	for i := range c.k {
		c.k[i].Free()
		c.v[i].Free()
	}
	c.bias.Free()
}

// shrinkAt is the share of live rows below which the finished ones are cut out of the cache: copying it costs about as much as two
// steps.
const shrinkAt = 0.75

// decode samples all continuations of the batch.
func (b *batch) decode(s *torch.Scope, hidden *torch.Tensor, states []levelState, want *wanted, last [][2]int32) error {
	rows, firsts := b.rows(want, last)
	if len(rows) == 0 {
		return nil
	}
	longest := 0
	for _, r := range rows {
		longest = max(longest, r.job.max)
	}
	// The first token comes from the prompt pass: equal prompts share one row of logits.
	s.Sub(func(s *torch.Scope) {
		h := s.IndexSelect(hidden, 0, s.Int64(firsts, int64(len(firsts))))
		b.choose(s, rows, s.LogSoftmax(b.net.logits(s, h), -1))
	})
	live := keepLive(rows)
	if s.Err() != nil || len(live) == 0 {
		return s.Err()
	}
	c := b.newCache(s, live, states, longest)
	defer c.free()
	slots := live // the row of each cache row, finished ones included
	for s.Err() == nil && len(live) > 0 && !b.e.stopped() {
		if float64(len(live)) < shrinkAt*float64(len(slots)) {
			c.shrink(s, slots)
			slots = live
		}
		s.Sub(func(s *torch.Scope) {
			for i, r := range slots {
				r.first = i
			}
			b.choose(s, live, b.step(s, c, slots))
		})
		live = keepLive(live)
	}
	if b.e.stopped() {
		return ErrClosed
	}
	return s.Err()
}

// rows lists the continuations, those of one level together, and the hidden rows of their first tokens, each once.
func (b *batch) rows(want *wanted, last [][2]int32) (rows []*row, firsts []int64) {
	at := map[int64]int{}
	for i, j := range b.jobs {
		if j.rows == 0 {
			continue
		}
		h := want.row(last[i])
		if _, ok := at[h]; !ok {
			at[h] = len(firsts)
			firsts = append(firsts, h)
		}
		path := b.plan.paths[b.plan.index[i]]
		j.res.Choices = make([]Choice, j.rows)
		for n := range j.rows {
			c := &j.res.Choices[n]
			c.Index = n
			rows = append(rows, &row{
				job: j, choice: c, draw: newSampler(j.req, j.seed, n), stops: newStopFinder(j.req.Stop),
				length: len(j.req.Prompt), first: at[h], leaf: path[len(path)-1],
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return a.leaf.level - b.leaf.level })
	return rows, firsts
}

func keepLive(rows []*row) []*row {
	var out []*row
	for _, r := range rows {
		if !r.done {
			out = append(out, r)
		}
	}
	return out
}

// newCache copies each row's keys and values out of its leaf's level.
func (b *batch) newCache(s *torch.Scope, rows []*row, states []levelState, longest int) *cache {
	width := 0
	for _, r := range rows {
		width = max(width, states[r.leaf.level].width)
	}
	slots := width + longest
	cfg := b.net.cfg
	c := &cache{used: width}
	bias := make([]float32, len(rows)*slots)
	for i, r := range rows {
		st := &states[r.leaf.level]
		valid := st.valid[r.leaf.row*st.width : (r.leaf.row+1)*st.width]
		for p := range width {
			if p >= len(valid) || !valid[p] {
				bias[i*slots+p] = float32(math.Inf(-1))
			}
		}
	}
	c.bias = s.Keep(s.To(s.Float32(bias, int64(len(rows)), 1, 1, int64(slots)), b.net.embeds.DType()))
	for l := range b.net.blocks {
		s.Sub(func(s *torch.Scope) {
			k := s.Zeros(b.net.embeds.DType(), int64(len(rows)), int64(cfg.NumKVHeads), int64(slots), int64(cfg.HeadDim))
			v := s.Zeros(b.net.embeds.DType(), int64(len(rows)), int64(cfg.NumKVHeads), int64(slots), int64(cfg.HeadDim))
			for from := 0; from < len(rows); {
				level, to := rows[from].leaf.level, from
				var idx []int64
				for ; to < len(rows) && rows[to].leaf.level == level; to++ {
					idx = append(idx, int64(rows[to].leaf.row))
				}
				st, pick := &states[level], s.Int64(idx, int64(len(idx)))
				into := func(dst, src *torch.Tensor) {
					dst = s.Narrow(s.Narrow(dst, 0, int64(from), int64(to-from)), 2, 0, int64(st.width))
					s.CopyInto(dst, s.IndexSelect(src, 0, pick))
				}
				into(k, st.k[l])
				into(v, st.v[l])
				from = to
			}
			c.k, c.v = append(c.k, s.Keep(k)), append(c.v, s.Keep(v))
		})
	}
	return c
}

// shrink cuts the rows of finished continuations out.
func (c *cache) shrink(s *torch.Scope, slots []*row) {
	var idx []int64
	for i, r := range slots {
		if !r.done {
			idx = append(idx, int64(i))
		}
	}
	replace := func(t **torch.Tensor, pick *torch.Tensor) {
		if next := s.IndexSelect(*t, 0, pick); next != nil {
			s.Keep(next)
			(*t).Free()
			*t = next
		}
	}
	s.Sub(func(s *torch.Scope) {
		pick := s.Int64(idx, int64(len(idx)))
		for i := range c.k {
			replace(&c.k[i], pick)
			replace(&c.v[i], pick)
		}
		replace(&c.bias, pick)
	})
}

// step feeds every cache row's next token and returns the log probabilities of what follows. Finished rows are fed along.
func (b *batch) step(s *torch.Scope, c *cache, rows []*row) *torch.Tensor {
	n := int64(len(rows))
	ids, pos := make([]int64, n), make([]int64, n)
	for i, r := range rows {
		if !r.done {
			ids[i], pos[i] = int64(r.next), int64(r.length-1)
		}
	}
	h := b.net.decodeStep(s, c, ids, pos)
	return s.LogSoftmax(b.net.logits(s, h), -1)
}
