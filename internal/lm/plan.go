package lm

import (
	"encoding/binary"
	"math"
	"slices"
)

// A plan arranges token sequences as a forest whose edges are runs of tokens, so that what several sequences begin with passes
// through the model once. All runs of one depth form a level and are computed together; a level's rows attend to their parents'.
//
// A sequence is a list of keys: a token id, or for a soft row the complement of its index in the table of distinct rows. Equal keys
// mean equal inputs, and positions are counted from the start of the sequence, so an equal beginning has equal keys and values.
type plan struct {
	keys   [][]int64 // the distinct sequences
	index  []int     // per input sequence: which of keys
	levels []level
	paths  [][]place // per distinct sequence, from the root to its leaf
}

// level holds the runs of one depth, right-padded to cols.
type level struct {
	nodes []node
	cols  int
}

// node is the run keys[seq][from:to]; parent is its row in the level above, -1 in level 0.
type node struct{ seq, from, to, parent int }

// place names a node.
type place struct{ level, row int }

// Sharing a run is worth its own level only if it saves enough positions: below that, one wider batch is faster. The values are
// measured on 4 layers × 192; results do not depend on them.
const (
	minSaved = 48
	maxDepth = 4
)

// newPlan builds the forest. Sequences must not be empty.
func newPlan(seqs [][]int64, share bool) *plan {
	p := &plan{index: make([]int, len(seqs))}
	order := make([]int, len(seqs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(seqs[a], seqs[b]) })
	for n, i := range order {
		if n == 0 || !slices.Equal(seqs[i], p.keys[len(p.keys)-1]) {
			p.keys = append(p.keys, seqs[i])
		}
		p.index[i] = len(p.keys) - 1
	}
	p.paths = make([][]place, len(p.keys))
	if share {
		p.build(0, len(p.keys), 0, place{-1, -1}, nil)
	} else {
		for i := range p.keys {
			p.add(i, i+1, 0, len(p.keys[i]), place{-1, -1}, nil)
		}
	}
	return p
}

// add appends the run [from,to) of the sequences lo..hi-1 (equal there) below parent and returns its place and path.
func (p *plan) add(lo, hi, from, to int, parent place, path []place) (place, []place) {
	l := parent.level + 1
	for len(p.levels) <= l {
		p.levels = append(p.levels, level{})
	}
	lv := &p.levels[l]
	lv.nodes = append(lv.nodes, node{lo, from, to, parent.row})
	lv.cols = max(lv.cols, to-from)
	at := place{l, len(lv.nodes) - 1}
	path = append(slices.Clone(path), at)
	if hi == lo+1 && to == len(p.keys[lo]) {
		p.paths[lo] = path
	}
	return at, path
}

// build places the sorted sequences lo..hi-1, which agree before from.
func (p *plan) build(lo, hi, from int, parent place, path []place) {
	if hi-lo == 1 {
		p.add(lo, hi, from, len(p.keys[lo]), parent, path)
		return
	}
	first, last := p.keys[lo], p.keys[hi-1]
	// Every sequence keeps at least its last token to itself, so that its leaf exists.
	lcp := from
	for lcp < len(first)-1 && lcp < len(last) && first[lcp] == last[lcp] {
		lcp++
	}
	if (lcp-from)*(hi-lo-1) >= minSaved && parent.level+2 < maxDepth {
		parent, path = p.add(lo, hi, from, lcp, parent, path)
		from = lcp
	}
	if lcp == len(first)-1 { // the first may be a beginning of the others: it sorts before them
		p.add(lo, lo+1, from, len(first), parent, path)
		lo++
	}
	for lo < hi {
		end := lo + 1
		for end < hi && len(p.keys[lo]) > lcp && p.keys[end][lcp] == p.keys[lo][lcp] {
			end++
		}
		p.build(lo, end, from, parent, path)
		lo = end
	}
}

// computed returns the number of positions that pass through the model, padding not counted.
func (p *plan) computed() int {
	n := 0
	for _, lv := range p.levels {
		for _, nd := range lv.nodes {
			n += nd.to - nd.from
		}
	}
	return n
}

// bytes estimates what a pass over the plan keeps in memory for its gradient: all rows padded to their level's widest, the keys and values of the
// levels above once per row (and scaled once more), and the scores of attention to them.
func (p *plan) bytes(c Config) int {
	perLayer, width := 0, 0
	for l, lv := range p.levels {
		rows := len(lv.nodes)
		width += lv.cols
		perLayer += c.keptFloats() * rows * lv.cols
		if l > 0 {
			perLayer += rows * width * (2*c.kvSize() + 2*c.qSize() + c.NumHeads*lv.cols)
		}
	}
	return 4 * c.NumLayers * perLayer
}

// at returns where position pos of distinct sequence seq is computed: its level, and its index among the level's rows × cols.
func (p *plan) at(seq, pos int) (lv, flat int) {
	for _, pl := range p.paths[seq] {
		if nd := p.levels[pl.level].nodes[pl.row]; pos < nd.to {
			return pl.level, pl.row*p.levels[pl.level].cols + pos - nd.from
		}
	}
	return -1, -1
}

// wanted collects the positions whose final hidden state is needed. The rest skip the last layer's feed-forward part.
type wanted struct {
	p    *plan
	rows [][]int64       // per level: flat indexes
	seen []map[int]int32 // per level: flat index → position in rows
}

func newWanted(p *plan) *wanted {
	w := &wanted{p: p, rows: make([][]int64, len(p.levels)), seen: make([]map[int]int32, len(p.levels))}
	for i := range w.seen {
		w.seen[i] = map[int]int32{}
	}
	return w
}

// add asks for a position and returns a ticket for row.
func (w *wanted) add(seq, pos int) (ticket [2]int32) {
	l, flat := w.p.at(seq, pos)
	i, ok := w.seen[l][flat]
	if !ok {
		i = int32(len(w.rows[l]))
		w.seen[l][flat] = i
		w.rows[l] = append(w.rows[l], int64(flat))
	}
	return [2]int32{int32(l), i}
}

// row turns a ticket into the row of the hidden states once everything has been added.
func (w *wanted) row(ticket [2]int32) int64 {
	n := int64(ticket[1])
	for l := range ticket[0] {
		n += int64(len(w.rows[l]))
	}
	return n
}

// softTable gives equal soft rows equal keys.
type softTable struct {
	dim  int
	data []float32
	of   map[string]int64
}

func newSoftTable(dim int) *softTable { return &softTable{dim: dim, of: map[string]int64{}} }

// key returns the key of a row. Rows with different owners are kept apart even when they are equal.
func (t *softTable) key(row []float32, owner int) int64 {
	b := make([]byte, 0, 4*len(row)+8)
	for _, v := range row {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(owner))
	i, ok := t.of[string(b)]
	if !ok {
		i = int64(len(t.of))
		t.of[string(b)] = i
		t.data = append(t.data, row...)
	}
	return ^i
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
