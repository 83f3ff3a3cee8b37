package lm

import (
	"recpie/internal/torch"
)

// block is one transformer layer.
type block struct {
	norm1, norm2 norm
	qkv, proj    linear
	mlp          mlp
	moe          *mixture // instead of mlp where it is not nil
}

// network is a set of weights to compute with: the model's own, those with an adapter, or copies under training.
type network struct {
	cfg    Config
	embeds *torch.Tensor
	wpe    *torch.Tensor // learned positions, nil with rotary ones
	rope   *ropeTable
	final  norm
	head   *torch.Tensor // [vocabulary, hidden]
	blocks []block
}

// newNetwork arranges tensors found by name.
func newNetwork(cfg Config, rope *ropeTable, get func(name string) *torch.Tensor) *network {
	n := &network{cfg: cfg, rope: rope}
	if cfg.gpt() {
		n.embeds, n.wpe = get("wte.weight"), get("wpe.weight")
		n.head, n.final = n.embeds, norm{get("ln_f.weight"), get("ln_f.bias"), cfg.NormEps}
	} else {
		n.embeds, n.head = get("embed_tokens.weight"), get("lm_head.weight")
		if cfg.TiedEmbeddings {
			n.head = n.embeds
		}
		n.final = norm{w: get("norm.weight"), eps: cfg.NormEps}
	}
	for i := range cfg.NumLayers {
		n.blocks = append(n.blocks, newBlock(cfg, func(below string) *torch.Tensor { return get(cfg.layerName(i, below)) }))
	}
	return n
}

func newBlock(cfg Config, get func(below string) *torch.Tensor) block {
	lin := func(name string) linear {
		return linear{w: get(name + ".weight"), b: get(name + ".bias"), conv: cfg.gpt()}
	}
	if cfg.gpt() {
		return block{
			norm1: norm{get("ln_1.weight"), get("ln_1.bias"), cfg.NormEps}, norm2: norm{get("ln_2.weight"), get("ln_2.bias"), cfg.NormEps},
			qkv: lin("attn.c_attn"), proj: lin("attn.c_proj"), mlp: mlp{up: lin("mlp.c_fc"), down: lin("mlp.c_proj")},
		}
	}
	b := block{
		norm1: norm{w: get("input_layernorm.weight"), eps: cfg.NormEps}, norm2: norm{w: get("post_attention_layernorm.weight"), eps: cfg.NormEps},
		qkv: lin("self_attn.qkv_proj"), proj: lin("self_attn.o_proj"),
	}
	if cfg.Experts == 0 {
		b.mlp = mlp{up: lin("mlp.gate_up_proj"), down: lin("mlp.down_proj"), gated: true}
		return b
	}
	b.moe = &mixture{router: get("block_sparse_moe.gate.weight"), perTok: cfg.ExpertsPerTok}
	for e := range cfg.Experts {
		x := expertName(e)
		b.moe.experts = append(b.moe.experts, mlp{up: lin(x + "w13"), down: lin(x + "w2"), gated: true})
	}
	return b
}

// linear returns the layer that a tensor's name stands for.
func (b *block) linear(of string) *linear {
	switch of {
	case "attn.c_attn", "self_attn.qkv_proj":
		return &b.qkv
	case "attn.c_proj", "self_attn.o_proj":
		return &b.proj
	case "mlp.c_fc", "mlp.gate_up_proj":
		return &b.mlp.up
	default:
		return &b.mlp.down
	}
}

func (b *block) feedForward(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	x = b.norm2.apply(s, x)
	if b.moe != nil {
		return b.moe.apply(s, x)
	}
	return b.mlp.apply(s, x)
}

// heads computes queries, keys and values of x [rows, cols, hidden]: [rows, heads, cols, head], rotated by the angles where there are any
// (cos and sin [rows, cols, 1, head/2]).
func (n *network) heads(s *torch.Scope, b *block, x, cos, sin *torch.Tensor) (q, k, v *torch.Tensor) {
	y := b.qkv.apply(s, b.norm1.apply(s, x))
	return s.Heads(y, cos, sin, int64(n.cfg.NumHeads), int64(n.cfg.NumKVHeads))
}

// levelState is what a level leaves behind for its children.
type levelState struct {
	width int             // key slots per row: those of the ancestors, then the level's own
	valid []bool          // [rows × width]: slots that hold a position of the row's sequence
	k, v  []*torch.Tensor // per layer [rows, key heads, width, head]
}

// flow is a plan under way through the layers.
type flow struct {
	p      *plan
	levels []flowLevel
	want   [][]int64 // per level, the positions whose last hidden state is needed
	drop   bool      // keys and values go when their layer is done
}

// flowLevel is one level of it.
type flowLevel struct {
	x        *torch.Tensor // [rows, cols, hidden]; after the last layer [wanted, hidden], nil without any
	cos, sin *torch.Tensor // [rows, cols, 1, head/2], nil without rotary positions
	mask     *torch.Tensor // which keys each query may see; nil in the first level, which is causal
	parents  *torch.Tensor // each row's row in the level above
	state    levelState
}

// forward computes the plan. soft [n, hidden] holds the soft rows that the keys name, nil without any. It returns the final hidden
// states (after the last norm) of the wanted positions, in the order of wanted.row.
func (n *network) forward(s *torch.Scope, p *plan, soft *torch.Tensor, w *wanted) *torch.Tensor {
	f := n.start(s, p, soft, w)
	for i := range n.blocks {
		n.layer(s, f, i)
	}
	return n.finish(s, f)
}

// start embeds all positions.
func (n *network) start(s *torch.Scope, p *plan, soft *torch.Tensor, w *wanted) *flow {
	f := &flow{p: p, levels: make([]flowLevel, len(p.levels)), want: w.rows}
	for l := range p.levels {
		lv, fl := &p.levels[l], &f.levels[l]
		var pos []int64
		fl.x, pos = n.embed(s, p, lv, soft)
		rows, cols := int64(len(lv.nodes)), int64(lv.cols)
		fl.state.k, fl.state.v = make([]*torch.Tensor, len(n.blocks)), make([]*torch.Tensor, len(n.blocks))
		if n.rope != nil {
			fl.cos, fl.sin = n.rope.at(s, pos)
			half := fl.cos.Dim(-1)
			fl.cos, fl.sin = s.Reshape(fl.cos, rows, cols, 1, half), s.Reshape(fl.sin, rows, cols, 1, half)
		}
		if l == 0 {
			fl.state.width = lv.cols
			fl.state.valid = make([]bool, len(lv.nodes)*lv.cols)
			for r, nd := range lv.nodes {
				fillTrue(fl.state.valid[r*lv.cols : r*lv.cols+nd.to-nd.from])
			}
		} else {
			fl.mask, fl.parents = parentMask(s, lv, &f.levels[l-1].state, &fl.state)
		}
	}
	return f
}

// layer computes layer i of all levels.
func (n *network) layer(s *torch.Scope, f *flow, i int) {
	if !f.drop {
		n.layerOf(s, f, i)
		return
	}
	s.Sub(func(s *torch.Scope) {
		n.layerOf(s, f, i)
		for l := range f.levels {
			fl := &f.levels[l]
			if fl.state.k[i], fl.state.v[i] = nil, nil; fl.x != nil {
				s.Lift(fl.x)
			}
		}
	})
}

func (n *network) layerOf(s *torch.Scope, f *flow, i int) {
	for l := range f.levels {
		var parent *levelState
		if l > 0 {
			parent = &f.levels[l-1].state
		}
		fl := &f.levels[l]
		s.Sub(func(s *torch.Scope) { // what the next layer does not need is freed at once
			if fl.x = n.levelLayer(s, fl, parent, i, f.want[l]); fl.x != nil {
				s.Lift(fl.x)
			}
		})
	}
}

// levelLayer computes layer i of one level.
func (n *network) levelLayer(s *torch.Scope, fl *flowLevel, parent *levelState, i int, want []int64) *torch.Tensor {
	b, final := &n.blocks[i], i+1 == len(n.blocks)
	q, k, v := n.heads(s, b, fl.x, fl.cos, fl.sin)
	if parent != nil {
		k = s.Cat(2, s.IndexSelect(parent.k[i], 0, fl.parents), k)
		v = s.Cat(2, s.IndexSelect(parent.v[i], 0, fl.parents), v)
	}
	fl.state.k[i], fl.state.v[i] = s.Lift(k), s.Lift(v)
	if final && len(want) == 0 {
		return nil // only the keys and values of this level are needed
	}
	rows, cols, d, size := fl.x.Dim(0), fl.x.Dim(1), int64(n.cfg.HiddenSize), int64(n.cfg.qSize())
	att := s.Reshape(s.Transpose(n.attend(s, q, k, v, fl.mask), 1, 2), rows*cols, size)
	y := s.Reshape(fl.x, rows*cols, d)
	if final {
		idx := s.Int64(want, int64(len(want)))
		att, y = s.IndexSelect(att, 0, idx), s.IndexSelect(y, 0, idx)
	}
	y = s.Add(y, b.proj.apply(s, att))
	y = s.Add(y, b.feedForward(s, y))
	if !final {
		y = s.Reshape(y, rows, cols, d)
	}
	return y
}

// finish puts the wanted hidden states of all levels together.
func (n *network) finish(s *torch.Scope, f *flow) *torch.Tensor {
	var hidden []*torch.Tensor
	for l := range f.levels {
		if x := f.levels[l].x; x != nil {
			hidden = append(hidden, x)
		}
	}
	switch len(hidden) {
	case 0:
		return nil
	case 1:
		return n.final.apply(s, hidden[0])
	}
	return n.final.apply(s, s.Cat(0, hidden...))
}

// attendBytes bounds the scores that masked attention holds at once. The kernel that needs no memory for scores takes no mask, so a level below
// others is computed in parts of whole rows: all at once, long prompts in full batches took gigabytes, given back to the system and
// fetched anew in every layer.
var attendBytes int64 = 8 << 20

// attend is attention of q [rows, heads, cols, head] to k and v [rows, key heads, width, head] under a mask, or causal without one.
func (n *network) attend(s *torch.Scope, q, k, v, mask *torch.Tensor) *torch.Tensor {
	if group := int64(n.cfg.NumHeads / n.cfg.NumKVHeads); group > 1 {
		k, v = s.RepeatInterleave(k, group, 1), s.RepeatInterleave(v, group, 1)
	}
	if mask == nil {
		return s.Attention(q, k, v, nil, true, 0)
	}
	rows := q.Dim(0)
	part := max(1, attendBytes/max(1, 4*q.Dim(1)*q.Dim(2)*k.Dim(2)))
	if part >= rows {
		return s.Attention(q, k, v, mask, false, 0)
	}
	var out []*torch.Tensor
	for from := int64(0); from < rows && s.Err() == nil; from += part {
		n := min(part, rows-from)
		s.Sub(func(s *torch.Scope) {
			cut := func(t *torch.Tensor) *torch.Tensor { return s.Narrow(t, 0, from, n) }
			out = append(out, s.Lift(s.Attention(cut(q), cut(k), cut(v), cut(mask), false, 0)))
		})
	}
	return s.Cat(0, out...)
}

// embed returns the embeddings [rows, cols, hidden] and the positions [rows × cols]; soft rows replace the token's part.
func (n *network) embed(s *torch.Scope, p *plan, lv *level, soft *torch.Tensor) (x *torch.Tensor, pos []int64) {
	rows, cols, d := int64(len(lv.nodes)), int64(lv.cols), int64(n.cfg.HiddenSize)
	ids := make([]int64, rows*cols)
	pos = make([]int64, rows*cols)
	var from []int64 // for each position its row in [token embeddings; soft rows], nil without soft rows
	for r, nd := range lv.nodes {
		for c := nd.from; c < nd.to; c++ {
			at := int64(r)*cols + int64(c-nd.from)
			pos[at] = int64(c)
			if key := p.keys[nd.seq][c]; key >= 0 {
				ids[at] = key
			} else {
				if from == nil {
					from = make([]int64, rows*cols)
					for i := range from {
						from[i] = int64(i)
					}
				}
				from[at] = rows*cols + ^key
			}
		}
	}
	x = s.Embedding(n.embeds, s.Int64(ids, rows*cols))
	if from != nil {
		x = s.IndexSelect(s.Cat(0, x, s.To(soft, x.DType())), 0, s.Int64(from, rows*cols))
	}
	if n.wpe != nil {
		x = s.Add(x, s.Embedding(n.wpe, s.Int64(pos, rows*cols)))
	}
	return s.Reshape(x, rows, cols, d), pos
}

// parentMask returns which keys each query of a level may see: the valid ones of its ancestors, and its own run up to itself.
func parentMask(s *torch.Scope, lv *level, parent, out *levelState) (mask, parentRows *torch.Tensor) {
	rows, cols, above := len(lv.nodes), lv.cols, parent.width
	width := above + cols
	out.width, out.valid = width, make([]bool, rows*width)
	see := make([]bool, rows*cols*width)
	up := make([]int64, rows)
	for r, nd := range lv.nodes {
		valid := out.valid[r*width : (r+1)*width]
		copy(valid, parent.valid[nd.parent*above:(nd.parent+1)*above])
		fillTrue(valid[above : above+nd.to-nd.from])
		up[r] = int64(nd.parent)
		for c := range cols {
			row := see[(r*cols+c)*width:][:width]
			copy(row, valid[:above])
			fillTrue(row[above : above+c+1])
		}
	}
	return s.Bool(see, int64(rows), 1, int64(cols), int64(width)), s.Int64(up, int64(rows))
}

// logits multiplies hidden states by the unembedding, in float32.
func (n *network) logits(s *torch.Scope, h *torch.Tensor) *torch.Tensor {
	return s.To(s.Linear(h, n.head, nil), torch.Float32)
}

func fillTrue(b []bool) {
	for i := range b {
		b[i] = true
	}
}
