package feature

import "math"

const (
	pairShrink  = 10  // co-ratings of prior weight in a similarity
	pairVar     = .04 // variance of a deviation: the scale of similarities
	blendShrink = 1   // similarity of prior weight in a neighbourhood mean
)

// common is one item that the current user and another user have both rated: the position among the current user's records, and
// the other user's deviation from the item's mean among all but the current user.
type common struct {
	next int32 // index of the same other user's previous one, -1 none
	pos  int32
	e    [2]float64
}

// neighbours compares the current user with all others, once per user. Because every deviation leaves the current user out, the
// products over other users need no correction for the target; those with the current user's own deviations have it taken out.
type neighbours struct {
	head   []int32 // per other user: index of the last common item, -1 none
	shared []common
	others []int32 // users with common items, in the order in which they were met
	cross  []float32
	count  []uint16
	width  int // of cross and count: number of visible positions
	column []int32
	list   []common
	rated  []common // those of list whose position is visible; pos is its column
	weight float64
	byPos  [][]overlap // per position: the users who rated it
}

// overlap is another user's rating of the target's item, with what is needed to leave the target out of the similarity.
type overlap struct {
	e             [2]float64 // deviation on the target's item
	sum, sumE     [2]float64 // sums over common visible items of quantised res·e, and of e
	n             float64    // number of common visible items
	targetVisible bool
}

func (n *neighbours) init(users int) {
	n.head = make([]int32, users)
	for u := range n.head {
		n.head[u] = -1
	}
}

func (n *neighbours) collect(b *builder) {
	w, size := b.w, len(b.recs)
	n.shared, n.others = n.shared[:0], n.others[:0]
	for p := range size {
		for _, v := range w.raters[w.ds.Records[b.recs[p]].Item] {
			if v >= b.from && v < b.to {
				continue
			}
			other := w.ds.Records[v].User
			if n.head[other] < 0 {
				n.others = append(n.others, other)
			}
			n.shared = append(n.shared, common{next: n.head[other], pos: int32(p),
				e: [2]float64{quantise(w.dev[0][v] - b.d[0][p]), quantise(w.dev[1][v] - b.d[1][p])}})
			n.head[other] = int32(len(n.shared) - 1)
		}
	}
	n.width = len(b.seen)
	n.cross, n.count = resize(n.cross, size*n.width), resize(n.count, size*n.width)
	n.column = resize(n.column, size)
	for p := range n.column {
		n.column[p] = -1
	}
	for c, p := range b.seen {
		n.column[p] = int32(c)
	}
	n.byPos = resize(n.byPos, size)
	for _, other := range n.others {
		n.list = n.list[:0]
		for s := n.head[other]; s >= 0; s = n.shared[s].next {
			n.list = append(n.list, n.shared[s])
		}
		n.head[other] = -1
		n.compare(b)
	}
}

// compare adds one other user's common items to the item-item products and to the lists of raters.
func (n *neighbours) compare(b *builder) {
	var ov overlap
	n.rated = n.rated[:0]
	for _, c := range n.list {
		col := n.column[c.pos]
		if col < 0 {
			continue
		}
		ov.n++
		for k := range 2 {
			ov.sum[k] += quantise(b.res[k][c.pos] * c.e[k])
			ov.sumE[k] += c.e[k]
		}
		n.rated = append(n.rated, common{pos: col, e: c.e})
	}
	for _, c := range n.list {
		if int(c.pos) < b.first {
			continue
		}
		ov.e, ov.targetVisible = c.e, n.column[c.pos] >= 0
		n.byPos[c.pos] = append(n.byPos[c.pos], ov)
		k := b.w.half(b.recs[c.pos])
		e := float32(c.e[k])
		row := int(c.pos) * n.width
		cross, count := n.cross[row:row+n.width], n.count[row:row+n.width]
		for q := range n.rated {
			col := n.rated[q].pos
			cross[col] += e * float32(n.rated[q].e[k])
			if count[col] < math.MaxUint16 {
				count[col]++
			}
		}
	}
}

// items is the mean of the user's other deviations weighted by the similarity of their items to the target's (positive ones).
func (n *neighbours) items(b *builder, p, k int, mean float64) float64 {
	var sum, weight float64
	row := p * n.width
	for c, q := range b.seen {
		if s := float64(n.cross[row+c]); int(q) != p && s > 0 {
			s /= (float64(n.count[row+c]) + pairShrink) * pairVar
			sum += s * (b.res[k][q] - mean)
			weight += s
		}
	}
	n.weight = math.Log1p(weight)
	return sum / (weight + blendShrink)
}

// users is the mean deviation of the item's other raters weighted by their similarity to the user (positive ones), the target left
// out of the similarity.
func (n *neighbours) users(b *builder, p, k int, mean float64) float64 {
	var sum, weight float64
	for _, o := range n.byPos[p] {
		s, se, count := o.sum[k], o.sumE[k], o.n
		if o.targetVisible {
			s, se, count = s-quantise(b.res[k][p]*o.e[k]), se-o.e[k], count-1
		}
		if s -= mean * se; s > 0 {
			s /= (count + pairShrink) * pairVar
			sum += s * o.e[k]
			weight += s
		}
	}
	n.weight = math.Log1p(weight)
	return sum / (weight + blendShrink)
}
