package lm

import (
	"math"

	"recpie/internal/torch"
)

// keyValues is the memory for keys and values of an engine, in pages.
type keyValues interface {
	// attend writes the keys and values of a step's tokens and returns the attention of its queries, [queries, heads·head].
	attend(s *torch.Scope, n *network, layer int, qkv, cos, sin *torch.Tensor, slots []int64, q *torch.PagedQueries) *torch.Tensor
	copyPage(dst, src int32) error
	free()
}

// newKeyValues takes the memory for a number of pages.
func newKeyValues(m *Model, pages int) (keyValues, error) {
	if !m.plain() {
		return newTensorKV(m, pages)
	}
	kv, err := torch.NewPagedKV(pages, m.Cfg.NumLayers, m.Cfg.NumKVHeads, m.Cfg.HeadDim)
	if err != nil {
		return nil, err
	}
	return &kernelKV{kv}, nil
}

// kernelKV is the memory of our own loops.
type kernelKV struct{ kv *torch.PagedKV }

func (k *kernelKV) attend(s *torch.Scope, n *network, layer int, qkv, cos, sin *torch.Tensor, slots []int64, q *torch.PagedQueries) *torch.Tensor {
	return s.PagedAttention(k.kv, layer, n.cfg.NumHeads, qkv, cos, sin, slots, q)
}

func (k *kernelKV) copyPage(dst, src int32) error {
	k.kv.CopyPage(dst, src)
	return nil
}

func (k *kernelKV) free() { k.kv.Free() }

// tensorKV holds keys and values in tensors and attends by libtorch's operations: for devices and types that our loops do not know.
type tensorKV struct {
	dev  torch.Device
	k, v []*torch.Tensor // per layer [slots, key heads, head]
}

func newTensorKV(m *Model, pages int) (*tensorKV, error) {
	t := &tensorKV{dev: m.dev}
	err := m.dev.NoGrad(func(s *torch.Scope) error {
		for range m.Cfg.NumLayers {
			shape := []int64{int64(pages) * pageSize, int64(m.Cfg.NumKVHeads), int64(m.Cfg.HeadDim)}
			t.k, t.v = append(t.k, s.Keep(s.Zeros(m.dtype, shape...))), append(t.v, s.Keep(s.Zeros(m.dtype, shape...)))
		}
		return nil
	})
	if err != nil {
		t.free()
		return nil, err
	}
	return t, nil
}

func (t *tensorKV) free() {
	for i := range t.k {
		t.k[i].Free()
		t.v[i].Free()
	}
}

func (t *tensorKV) copyPage(dst, src int32) error {
	return t.dev.NoGrad(func(s *torch.Scope) error {
		for i := range t.k {
			for _, x := range []*torch.Tensor{t.k[i], t.v[i]} {
				s.CopyInto(s.Narrow(x, 0, int64(dst)*pageSize, pageSize), s.Narrow(x, 0, int64(src)*pageSize, pageSize))
			}
		}
		return nil
	})
}

func (t *tensorKV) attend(s *torch.Scope, n *network, layer int, qkv, cos, sin *torch.Tensor, slots []int64, q *torch.PagedQueries) *torch.Tensor {
	h, kv, d := int64(n.cfg.NumHeads), int64(n.cfg.NumKVHeads), int64(n.cfg.HeadDim)
	x := s.Reshape(qkv, qkv.Dim(0), h+2*kv, d)
	qk, v := s.Narrow(x, 1, 0, h+kv), s.Narrow(x, 1, h+kv, kv)
	if cos != nil {
		qk = s.Rotate(qk, s.Unsqueeze(cos, 1), s.Unsqueeze(sin, 1))
	}
	at := s.Int64(slots, int64(len(slots)))
	s.IndexCopyInto(t.k[layer], 0, at, s.Narrow(qk, 1, h, kv))
	s.IndexCopyInto(t.v[layer], 0, at, v)
	if len(q.Tokens) == 0 {
		return nil
	}
	// Queries over the same pages, neighbours in a prompt, are one row; rows of equal length are computed together.
	type row struct{ from, n int }
	groups := map[int][]row{}
	var order []int
	for i := 0; i < len(q.Tokens); {
		j := i + 1
		for j < len(q.Tokens) && q.At[j] == q.At[i] && q.Tokens[j] == q.Tokens[j-1]+1 && q.Lengths[j] == q.Lengths[j-1]+1 {
			j++
		}
		if groups[j-i] == nil {
			order = append(order, j-i)
		}
		groups[j-i] = append(groups[j-i], row{i, j - i})
		i = j
	}
	results, place := make([]*torch.Tensor, 0, len(order)), make([]int64, len(q.Tokens))
	done := int64(0)
	for _, size := range order {
		rows := groups[size]
		longest := 0
		for _, r := range rows {
			longest = max(longest, int(q.Lengths[r.from+size-1]))
		}
		keys, tokens := make([]int64, len(rows)*longest), make([]int64, 0, len(rows)*size)
		see := make([]bool, len(rows)*size*longest)
		for i, r := range rows {
			first := int(q.Lengths[r.from])
			for p := range int(q.Lengths[r.from+size-1]) {
				keys[i*longest+p] = int64(q.Tables[q.At[r.from]+int64(p/pageSize)])*pageSize + int64(p%pageSize)
			}
			for k := range size {
				tokens = append(tokens, int64(q.Tokens[r.from+k]))
				place[r.from+k] = done
				done++
				fillTrue(see[(i*size+k)*longest:][:first+k])
			}
		}
		b, l, w := int64(len(rows)), int64(size), int64(longest)
		gather := func(x *torch.Tensor) *torch.Tensor {
			return s.Transpose(s.Reshape(s.IndexSelect(x, 0, s.Int64(keys, b*w)), b, w, kv, d), 1, 2)
		}
		queries := s.Reshape(s.IndexSelect(s.Narrow(qk, 1, 0, h), 0, s.Int64(tokens, b*l)), b, l, h, d)
		att := n.attend(s, s.Transpose(queries, 1, 2), gather(t.k[layer]), gather(t.v[layer]), s.Bool(see, b, 1, l, w))
		results = append(results, s.Reshape(s.Transpose(att, 1, 2), b*l, h*d))
	}
	return s.IndexSelect(s.Cat(0, results...), 0, s.Int64(place, int64(len(place))))
}

// stepTokens are the tokens that pass through the model together: parts of prompts and the last tokens of continuations, of one network.
type stepTokens struct {
	ids     []int64   // a token, or the complement of a row of soft
	pos     []int64   // position in its sequence
	slots   []int64   // where its keys and values go
	soft    []float32 // rows of embeddings
	queries torch.PagedQueries
	want    []int64 // tokens whose last hidden state is needed, rising
}

// step computes the wanted hidden states after the last norm, [len(want), hidden]; nil without any.
func (n *network) step(s *torch.Scope, kv keyValues, b *stepTokens) *torch.Tensor {
	x, cos, sin := n.stepEmbed(s, b)
	for i := range n.blocks {
		s.Sub(func(s *torch.Scope) {
			l, q := &n.blocks[i], &b.queries
			last := i+1 == len(n.blocks)
			if last {
				q = b.wanted()
			}
			att := kv.attend(s, n, i, l.qkv.apply(s, l.norm1.apply(s, x)), cos, sin, b.slots, q)
			if last {
				if len(b.want) == 0 {
					x = nil
					return
				}
				x = s.IndexSelect(x, 0, s.Int64(b.want, int64(len(b.want))))
			}
			x = s.Add(x, l.proj.apply(s, att))
			x = s.Lift(s.Add(x, l.feedForward(s, x)))
		})
		if s.Err() != nil {
			return nil
		}
	}
	if x == nil {
		return nil
	}
	return n.final.apply(s, x)
}

// wanted are the queries of the wanted tokens.
func (b *stepTokens) wanted() *torch.PagedQueries {
	q := &torch.PagedQueries{Tables: b.queries.Tables}
	for _, t := range b.want {
		q.Tokens, q.Lengths, q.At = append(q.Tokens, int32(t)), append(q.Lengths, b.queries.Lengths[t]), append(q.At, b.queries.At[t])
	}
	return q
}

func (n *network) stepEmbed(s *torch.Scope, b *stepTokens) (x, cos, sin *torch.Tensor) {
	rows, d := int64(len(b.ids)), int64(n.cfg.HiddenSize)
	ids := b.ids
	var from []int64
	if len(b.soft) > 0 {
		ids, from = make([]int64, rows), make([]int64, rows)
		for i, id := range b.ids {
			if from[i] = int64(i); id >= 0 {
				ids[i] = id
			} else {
				from[i] = rows + ^id
			}
		}
	}
	x = s.Embedding(n.embeds, s.Int64(ids, rows))
	if from != nil {
		soft := s.To(s.Float32(b.soft, int64(len(b.soft))/d, d), x.DType())
		x = s.IndexSelect(s.Cat(0, x, soft), 0, s.Int64(from, rows))
	}
	if n.wpe != nil {
		return s.Add(x, s.Embedding(n.wpe, s.Int64(b.pos, rows))), nil, nil
	}
	cos, sin = n.rope.at(s, b.pos)
	return x, cos, sin
}

// pagesFor is how many pages hold n positions.
func pagesFor(n int) int { return int(math.Ceil(float64(n) / pageSize)) }
