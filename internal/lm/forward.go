package lm

import (
	"strconv"

	"recpie/internal/torch"
)

// linear is x·w + b with w in Conv1D form [in, out], plus scale·(x·aᵀ)·uᵀ when an adapter sits on it (a [rank, in], u [out, rank]).
type linear struct {
	w, b  *torch.Tensor
	a, u  *torch.Tensor
	scale float64
}

func (l *linear) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	y := s.Linear(x, s.Transpose(l.w, 0, 1), l.b)
	if l.a == nil {
		return y
	}
	return s.Add(y, s.MulS(s.Linear(s.Linear(x, l.a, nil), l.u, nil), l.scale))
}

// block is one transformer layer.
type block struct {
	ln1w, ln1b, ln2w, ln2b *torch.Tensor
	qkv, proj, fc, out     linear
}

// network is a set of weights to compute with: the model's own, those with an adapter, or copies under training.
type network struct {
	cfg        Config
	wte, wpe   *torch.Tensor
	lnfw, lnfb *torch.Tensor
	blocks     []block
}

// newNetwork arranges weights found by name.
func newNetwork(cfg Config, get func(name string) *torch.Tensor) *network {
	n := &network{cfg: cfg, wte: get("wte.weight"), wpe: get("wpe.weight"), lnfw: get("ln_f.weight"), lnfb: get("ln_f.bias")}
	for i := range cfg.NLayer {
		h := "h." + strconv.Itoa(i) + "."
		lin := func(name string) linear { return linear{w: get(h + name + ".weight"), b: get(h + name + ".bias")} }
		n.blocks = append(n.blocks, block{
			ln1w: get(h + "ln_1.weight"), ln1b: get(h + "ln_1.bias"), ln2w: get(h + "ln_2.weight"), ln2b: get(h + "ln_2.bias"),
			qkv: lin("attn.c_attn"), proj: lin("attn.c_proj"), fc: lin("mlp.c_fc"), out: lin("mlp.c_proj"),
		})
	}
	return n
}

// target returns the linear layer that a LoRA target names.
func (b *block) target(name string) *linear {
	switch name {
	case "attn.c_attn":
		return &b.qkv
	case "attn.c_proj":
		return &b.proj
	case "mlp.c_fc":
		return &b.fc
	default:
		return &b.out
	}
}

// levelState is what a level leaves behind for its children and for decoding.
type levelState struct {
	width int    // key slots per row: those of the ancestors, then the level's own
	valid []bool // [rows × width]: slots that hold a position of the row's sequence
	k, v  []*torch.Tensor
}

// forward computes the plan. soft [n, hidden] holds the soft rows that the keys name, nil without any. It returns the final hidden
// states (after ln_f) of the wanted positions, in the order of wanted.row, and the keys and values of every level.
func (n *network) forward(s *torch.Scope, p *plan, soft *torch.Tensor, w *wanted) (*torch.Tensor, []levelState) {
	states := make([]levelState, len(p.levels))
	var hidden []*torch.Tensor
	for l := range p.levels {
		var parent *levelState
		if l > 0 {
			parent = &states[l-1]
		}
		h := n.level(s, p, l, soft, parent, &states[l], w.rows[l])
		if h != nil {
			hidden = append(hidden, h)
		}
	}
	if len(hidden) == 0 {
		return nil, states
	}
	h := hidden[0]
	if len(hidden) > 1 {
		h = s.Cat(0, hidden...)
	}
	return s.LayerNorm(h, n.lnfw, n.lnfb, n.cfg.LayerNormEps), states
}

// level computes one level and returns the hidden states of the wanted rows, nil when there are none.
func (n *network) level(s *torch.Scope, p *plan, l int, soft *torch.Tensor, parent, out *levelState, want []int64) *torch.Tensor {
	lv := &p.levels[l]
	rows, cols := int64(len(lv.nodes)), int64(lv.cols)
	x := n.embed(s, p, lv, soft)
	var mask, parentRows *torch.Tensor
	if parent == nil {
		out.width = lv.cols
		out.valid = make([]bool, len(lv.nodes)*lv.cols)
		for r, nd := range lv.nodes {
			fillTrue(out.valid[r*lv.cols : r*lv.cols+nd.to-nd.from])
		}
	} else {
		mask, parentRows = parentMask(s, lv, parent, out)
	}
	heads, head := int64(n.cfg.NHead), int64(n.cfg.Head())
	for i := range n.blocks {
		final := i+1 == len(n.blocks)
		s.Sub(func(s *torch.Scope) { // what the next layer does not need is freed at once
			b := &n.blocks[i]
			qkv := b.qkv.apply(s, s.LayerNorm(x, b.ln1w, b.ln1b, n.cfg.LayerNormEps))
			qkv = s.Permute(s.Reshape(qkv, rows, cols, 3, heads, head), 2, 0, 3, 1, 4)
			q, k, v := s.Select(qkv, 0, 0), s.Select(qkv, 0, 1), s.Select(qkv, 0, 2)
			if parent != nil {
				k = s.Cat(2, s.IndexSelect(parent.k[i], 0, parentRows), k)
				v = s.Cat(2, s.IndexSelect(parent.v[i], 0, parentRows), v)
			}
			out.k, out.v = append(out.k, s.Lift(k)), append(out.v, s.Lift(v))
			if final && len(want) == 0 {
				x = nil // only the keys and values of this level are needed
				return
			}
			att := attend(s, q, k, v, mask)
			att = s.Reshape(s.Transpose(att, 1, 2), rows*cols, heads*head)
			y := s.Reshape(x, rows*cols, heads*head)
			if final {
				idx := s.Int64(want, int64(len(want)))
				att, y = s.IndexSelect(att, 0, idx), s.IndexSelect(y, 0, idx)
			}
			y = s.Add(y, b.proj.apply(s, att))
			y = s.Add(y, b.feedForward(s, y, n.cfg.LayerNormEps))
			if !final {
				y = s.Reshape(y, rows, cols, heads*head)
			}
			x = s.Lift(y)
		})
	}
	return x
}

// attendBytes bounds the scores that masked attention holds at once. The kernel that needs no memory for scores takes no mask, so a level below
// others is computed in parts of whole rows: all at once, long prompts in full batches took gigabytes, given back to the system and
// fetched anew in every layer.
var attendBytes int64 = 8 << 20

// attend is attention [rows, heads, cols, head] under a mask, or causal without one.
func attend(s *torch.Scope, q, k, v, mask *torch.Tensor) *torch.Tensor {
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

// feedForward is the second half of a layer, without the residual.
func (b *block) feedForward(s *torch.Scope, x *torch.Tensor, eps float64) *torch.Tensor {
	return b.out.apply(s, s.Gelu(b.fc.apply(s, s.LayerNorm(x, b.ln2w, b.ln2b, eps))))
}

// embed returns token plus position embeddings [rows, cols, hidden]; soft rows replace the token's part.
func (n *network) embed(s *torch.Scope, p *plan, lv *level, soft *torch.Tensor) *torch.Tensor {
	rows, cols, d := int64(len(lv.nodes)), int64(lv.cols), int64(n.cfg.NEmbd)
	ids, pos := make([]int64, rows*cols), make([]int64, rows*cols)
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
	x := s.Embedding(n.wte, s.Int64(ids, rows*cols))
	if from != nil {
		x = s.IndexSelect(s.Cat(0, x, soft), 0, s.Int64(from, rows*cols))
	}
	return s.Reshape(s.Add(x, s.Embedding(n.wpe, s.Int64(pos, rows*cols))), rows, cols, d)
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

// logits multiplies hidden states by the tied embedding matrix.
func (n *network) logits(s *torch.Scope, h *torch.Tensor) *torch.Tensor {
	return s.Linear(h, n.wte, nil)
}

func fillTrue(b []bool) {
	for i := range b {
		b[i] = true
	}
}
