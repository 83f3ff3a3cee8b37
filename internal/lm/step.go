package lm

import (
	"cmp"
	"math"
	"slices"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// stepPart is the part of a step that one thread computes: tasks that need nothing of the others in this step.
type stepPart struct {
	tasks []*task
	size  int // tokens, and for each that is sampled one more

	generated, computed int64
	err                 error
}

// scoreRows bounds the rows of logits that are in memory at once.
const scoreRows = 1024

// plan decides what the step computes and takes the pages that it needs.
func (e *Engine) plan() []*stepPart {
	room := e.opt.MaxTokens
	var clusters []*stepPart
	writer := map[int32]*stepPart{} // of pages that are written in this step
	for _, t := range e.active {
		c := &stepPart{tasks: []*task{t}}
		if t.from = t.done; t.done < len(t.keys) {
			needs := t.find(e.pool)
			t.from = t.done
			n := min(len(t.keys)-t.done, room)
			if n == 0 {
				continue
			}
			room -= n
			t.done += n
			for _, p := range needs { // pages of others that this step writes
				w := writer[p]
				if w == nil || w == c {
					continue
				}
				w.tasks, w.size = append(w.tasks, c.tasks...), w.size+c.size
				clusters = slices.DeleteFunc(clusters, func(x *stepPart) bool { return x == c })
				for page, other := range writer {
					if other == c {
						writer[page] = w
					}
				}
				c = w
			}
			if !e.opt.NoSharing {
				for ; (t.known+1)*pageSize <= t.done; t.known++ {
					t.serial = e.pool.know(t.pages[t.known], t.serial, t.keys[t.known*pageSize:(t.known+1)*pageSize])
					writer[t.pages[t.known]] = c
				}
			}
			c.size += n
		}
		for _, r := range t.rows {
			if (r.length-1)/pageSize == len(r.pages) {
				r.pages = append(r.pages, e.pool.take())
				e.pool.kept--
				r.kept--
			}
			c.size += 2
		}
		if !slices.Contains(clusters, c) {
			clusters = append(clusters, c)
		}
	}
	return split(clusters, e.opt.Workers)
}

// find looks again for what is known by now of the prompt's next pages, in the place of pages not yet written, and returns all that it relies on.
func (t *task) find(p *pool) []int32 {
	for t.done == t.known*pageSize && t.done+pageSize <= t.limit {
		i, ok := p.known[pageKey{t.serial, [pageSize]int64(t.keys[t.done : t.done+pageSize])}]
		if !ok {
			break
		}
		p.hold(i)
		p.drop(t.pages[t.known])
		t.pages[t.known], t.serial = i, p.pages[i].serial
		t.known++
		t.done += pageSize
	}
	t.res.CachedTokens = max(t.res.CachedTokens, min(t.done, t.known*pageSize))
	return t.pages[:t.known]
}

// split puts the clusters into at most n parts of about one size. Neighbours stay together, since they often share pages, unless a large cluster
// stands in the way.
func split(clusters []*stepPart, n int) []*stepPart {
	total, largest := 0, 0
	for _, c := range clusters {
		total, largest = total+c.size, max(largest, c.size)
	}
	n = max(1, min(n, len(clusters)))
	parts := make([]*stepPart, n)
	for i := range parts {
		parts[i] = &stepPart{}
	}
	if n > 1 && largest > total/n {
		slices.SortStableFunc(clusters, func(a, b *stepPart) int { return cmp.Compare(b.size, a.size) })
		for _, c := range clusters {
			slices.MinFunc(parts, func(a, b *stepPart) int { return cmp.Compare(a.size, b.size) }).join(c)
		}
		return parts
	}
	at, sum := 0, 0
	for _, c := range clusters {
		if at+1 < n && sum+c.size/2 > total*(at+1)/n {
			at++
		}
		parts[at].join(c)
		sum += c.size
	}
	return slices.DeleteFunc(parts, func(p *stepPart) bool { return len(p.tasks) == 0 })
}

func (p *stepPart) join(c *stepPart) {
	p.tasks, p.size = append(p.tasks, c.tasks...), p.size+c.size
}

// wish is what a wanted hidden state is for.
type wish struct {
	t     *task
	row   *row // its next token, nil for a position of the prompt
	pos   int
	first bool // the first tokens of the task's continuations
	score bool // the log probability of the prompt's next token
}

// compute runs the part, the tasks of one network after those of another.
func (p *stepPart) compute(e *Engine) {
	var order []*adapter
	of := map[*adapter][]*task{}
	for _, t := range p.tasks {
		if of[t.ad] == nil {
			order = append(order, t.ad)
		}
		of[t.ad] = append(of[t.ad], t)
	}
	for _, ad := range order {
		if err := p.tokens(e, ad.net, of[ad]); err != nil {
			p.err = err
			return
		}
	}
}

// tokens lays out what the tasks compute in this step, computes it and hands out the results.
func (p *stepPart) tokens(e *Engine, net *network, tasks []*task) error {
	b := &stepTokens{}
	var wishes []wish
	add := func(id int64, pos int, pages []int32, at int64) {
		b.ids, b.pos = append(b.ids, id), append(b.pos, int64(pos))
		b.slots = append(b.slots, int64(pages[pos/pageSize])*pageSize+int64(pos%pageSize))
		q := &b.queries
		q.Tokens, q.Lengths, q.At = append(q.Tokens, int32(len(b.ids)-1)), append(q.Lengths, int32(pos+1)), append(q.At, at)
	}
	width := net.cfg.HiddenSize
	for _, t := range tasks {
		at := int64(len(b.queries.Tables))
		if t.from < t.done {
			b.queries.Tables = append(b.queries.Tables, t.pages...)
		}
		for pos := t.from; pos < t.done; pos++ {
			id := t.keys[pos]
			if row, soft := t.soft[pos]; soft {
				id = ^int64(len(b.soft) / width)
				b.soft = append(b.soft, row...)
			}
			add(id, pos, t.pages, at)
			w := wish{t: t, pos: pos, first: pos == len(t.keys)-1 && t.job.rows > 0,
				score: t.req.PromptLogprobs >= 0 && pos+1 >= max(1, t.req.PromptFrom) && pos+1 < len(t.keys)}
			if w.first || w.score || t.req.Pool {
				b.want, wishes = append(b.want, int64(len(b.ids)-1)), append(wishes, w)
			}
		}
		p.computed += int64(t.done - t.from)
		for _, r := range t.rows {
			at := int64(len(b.queries.Tables))
			b.queries.Tables = append(b.queries.Tables, r.pages...)
			add(int64(r.next), r.length-1, r.pages, at)
			b.want, wishes = append(b.want, int64(len(b.ids)-1)), append(wishes, wish{t: t, row: r})
		}
	}
	if len(b.ids) == 0 {
		return nil
	}
	return e.b.Model.dev.NoGrad(func(s *torch.Scope) error {
		hidden := net.step(s, e.kv, b)
		if s.Err() != nil || len(wishes) == 0 {
			return s.Err()
		}
		addPooled(s, hidden, wishes)
		for from := 0; from < len(wishes) && s.Err() == nil; from += scoreRows {
			s.Sub(func(s *torch.Scope) {
				to := min(from+scoreRows, len(wishes))
				p.fulfil(s, e, net, s.Narrow(hidden, 0, int64(from), int64(to-from)), wishes[from:to])
			})
		}
		return s.Err()
	})
}

// addPooled adds the states of prompts whose mean is asked for.
func addPooled(s *torch.Scope, hidden *torch.Tensor, wishes []wish) {
	for i := 0; i < len(wishes); {
		t, j := wishes[i].t, i+1
		for j < len(wishes) && wishes[j].t == t {
			j++
		}
		if n := j - i; t.req.Pool && wishes[i].row == nil {
			s.Sub(func(s *torch.Scope) {
				sum := s.Float32s(s.SumDim(s.Narrow(hidden, 0, int64(i), int64(n)), 0, false))
				if t.pooled == nil {
					t.pooled = make([]float64, len(sum))
				}
				for k, v := range sum {
					t.pooled[k] += float64(v)
				}
			})
			if t.done == len(t.keys) {
				t.res.Pooled = make([]float32, len(t.pooled))
				for k, v := range t.pooled {
					t.res.Pooled[k] = float32(v / float64(len(t.keys)))
				}
			}
		}
		i = j
	}
}

// fulfil turns hidden states into scores and next tokens.
func (p *stepPart) fulfil(s *torch.Scope, e *Engine, net *network, hidden *torch.Tensor, wishes []wish) {
	if !slices.ContainsFunc(wishes, func(w wish) bool { return w.row != nil || w.first || w.score }) {
		return
	}
	logits := net.logits(s, hidden)
	data := logits.F32View()
	if data == nil || net.embeds.DType() != torch.Float32 || e.b.Model.dev != torch.CPU {
		data = s.Float32s(logits)
	}
	if s.Err() != nil {
		return
	}
	v := net.cfg.VocabSize
	scratch := make([]float32, v)
	for i, w := range wishes {
		line := data[i*v : (i+1)*v]
		if w.t.failed != nil || w.row == nil && !w.first && !w.score {
			continue
		}
		if math.IsNaN(float64(line[0])) {
			w.t.failed = fault.New(fault.Item, "lm: generate", errNotFinite)
			continue
		}
		if w.score {
			w.t.score(w.pos+1, line, scratch)
		}
		if w.first {
			w.t.newRows()
			for _, r := range w.t.rows {
				p.choose(e.b, r, line, scratch)
			}
		}
		if w.row != nil {
			p.choose(e.b, w.row, line, scratch)
		}
	}
}

// score notes the log probability of the prompt's token at a position. A marker has no id of the vocabulary, so its own stays undefined.
func (t *task) score(pos int, logits, scratch []float32) {
	id := t.req.Prompt[pos]
	if int(id) == len(logits) {
		return
	}
	norm := logNorm(logits, scratch)
	t.res.PromptLogprobs[pos] = TokenLogprob{id, logits[id] - norm, rankOf(logits, id)}
	if t.res.PromptTop != nil {
		t.res.PromptTop[pos] = alternatives(logits, norm, id, min(t.req.PromptLogprobs, len(logits)))
	}
}

// logNorm returns log Σ exp(logits).
func logNorm(logits, scratch []float32) float32 {
	id, lp := torch.Choose(logits, 0, 0, scratch)
	return logits[id] - lp
}

func (p *stepPart) choose(b *Bundle, r *row, logits, scratch []float32) {
	p.generated++
	r.accept(b, logits, scratch)
	if r.done {
		r.finish(b)
	}
	if r.job.req.OnToken != nil {
		r.job.req.OnToken(r.choice)
	}
}
