package feature

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// names are the columns in the order in which row writes them.
var names = []string{
	"user_mean", "item_mean", "pair_mean", "user_sd", "item_sd", "user_count", "item_count",
	"prefix_mean", "prefix_mean_20", "prefix_mean_5", "prefix_last", "session_mean", "session_count",
	"item_recent", "category_mean", "category_min", "category_max", "category_count",
	"item_neighbours", "item_neighbours_weight", "user_neighbours", "user_neighbours_weight",
	"gap", "user_age", "item_age", "time", "month_sin", "month_cos", "weekday_sin", "weekday_cos",
	"price", "price_shift",
}

const (
	day        = 86400
	priorSD    = .2 // of ratings on [0,1], the prior of the standard deviations
	recentLast = 15 // ratings of the item before the target
)

// builder computes the rows of one user at a time and keeps its scratch memory between users.
type builder struct {
	w        *world
	t        *Table
	from, to int32        // the user's rated records
	recs     []int32      // records by position: in order, candidates last
	first    int          // position of the first record whose row is wanted
	seen     []int32      // positions of visible records
	d        [2][]float64 // per position: mean deviation of the item among the other users
	res      [2][]float64 // per visible position: y − mu − d
	sum, sq  [2]float64
	catSum   [2][]float64
	catN     []float64
	near     neighbours
}

func newBuilder(w *world, t *Table) *builder {
	b := &builder{w: w, t: t, catN: make([]float64, w.nCats)}
	for k := range 2 {
		b.catSum[k] = make([]float64, w.nCats)
	}
	b.near.init(len(w.ds.Users))
	return b
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// user writes the rows of all rated records of user u.
func (b *builder) user(u int32) {
	b.from, b.to = b.w.ds.OfUser(u)
	b.recs, b.first = b.recs[:0], 0
	for r := b.from; r < b.to; r++ {
		b.recs = append(b.recs, r)
	}
	b.read()
	for p := range b.recs {
		b.row(p)
	}
}

// read prepares the sums over the records at hand.
func (b *builder) read() {
	w, n := b.w, len(b.recs)
	if n == 0 {
		return
	}
	b.seen = b.seen[:0]
	clear(b.catN)
	for k := range 2 {
		b.d[k], b.res[k] = resize(b.d[k], n), resize(b.res[k], n)
		b.sum[k], b.sq[k] = 0, 0
		clear(b.catSum[k])
	}
	for p, r := range b.recs {
		i := w.ds.Records[r].Item
		if w.visible[r] {
			b.seen = append(b.seen, int32(p))
			for _, c := range w.cats[i] {
				b.catN[c]++
			}
		}
		for k := range 2 {
			b.d[k][p], _ = b.itemOthers(k, r)
			if w.visible[r] {
				v := quantise(w.y[r] - w.mu[k] - b.d[k][p])
				b.res[k][p] = v
				b.sum[k] += v
				b.sq[k] += quantise(v * v)
				for _, c := range w.cats[i] {
					b.catSum[k][c] += v
				}
			}
		}
	}
	b.near.collect(b)
}

// itemOthers returns the shrunken mean deviation of the other users on the item of record r, and their number.
func (b *builder) itemOthers(k int, r int32) (mean, n float64) {
	w := b.w
	i := w.ds.Records[r].Item
	sum, n := w.itemSum[k][i], w.itemN[i]
	if w.visible[r] {
		sum, n = sum-w.dev[k][r], n-1
	}
	return sum / (n + shrink), n
}

func (b *builder) row(p int) {
	w, r := b.w, b.recs[p]
	k, i := w.half(r), w.ds.Records[r].Item
	out := b.t.Row(r)[:0]
	put := func(xs ...float64) {
		for _, x := range xs {
			out = append(out, float32(x))
		}
	}
	sum, sq, n := b.sum[k], b.sq[k], float64(len(b.seen))
	itemMean, itemN := b.d[k][p], w.itemN[i]
	itemSum, itemSq := w.itemSum[k][i], w.itemSq[k][i]
	if w.visible[r] {
		v, d := b.res[k][p], w.dev[k][r]
		sum, sq, n = sum-v, sq-quantise(v*v), n-1
		itemSum, itemSq, itemN = itemSum-d, itemSq-quantise(d*d), itemN-1
	}
	mean := sum / (n + shrink)
	put(mean, itemMean, w.mu[k]+mean+itemMean, spread(sum, sq, n), spread(itemSum, itemSq, itemN), math.Log1p(n), math.Log1p(itemN))
	b.prefix(put, p, k, mean)
	put(b.itemRecent(r, k) - itemMean)
	b.categories(put, r, p, k, mean)
	put(b.near.items(b, p, k, mean))
	put(b.near.weight)
	put(b.near.users(b, p, k, mean))
	put(b.near.weight)
	b.clock(put, r, p)
	b.prices(put, r, p)
}

// spread is a standard deviation shrunken towards priorSD by three records.
func spread(sum, sq, n float64) float64 {
	ss := sq
	if n > 0 {
		ss -= sum * sum / n
	}
	return math.Sqrt((max(ss, 0) + 3*priorSD*priorSD) / (n + 3))
}

// prefix writes the means of the user's visible records before the target, all, the last 20, the last 5 and the last one, and of
// those within the day before it, all relative to the user's mean.
func (b *builder) prefix(put func(...float64), p, k int, mean float64) {
	var all, last20, last5, last, day1 float64
	var n, nDay float64
	t := b.w.seconds[b.recs[p]]
	before := b.before(p)
	for q := len(before) - 1; q >= 0; q-- {
		v := b.res[k][before[q]] - mean
		if n == 0 {
			last = v
		}
		if n < 5 {
			last5 += v
		}
		if n < 20 {
			last20 += v
		}
		if t-b.w.seconds[b.recs[before[q]]] <= day {
			day1 += v
			nDay++
		}
		all += v
		n++
	}
	put(all/(n+2), last20/(min(n, 20)+2), last5/(min(n, 5)+2), last, day1/(nDay+2), math.Log1p(nDay))
}

// before returns the visible positions before p.
func (b *builder) before(p int) []int32 {
	lo, hi := 0, len(b.seen)
	for lo < hi {
		if m := (lo + hi) / 2; int(b.seen[m]) < p {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return b.seen[:lo]
}

// itemRecent is the mean deviation of the item's last ratings by others before the target's time.
func (b *builder) itemRecent(r int32, k int) float64 {
	w := b.w
	raters := w.raters[w.ds.Records[r].Item]
	lo, hi := 0, len(raters)
	for lo < hi {
		if m := (lo + hi) / 2; w.seconds[raters[m]] < w.seconds[r] {
			lo = m + 1
		} else {
			hi = m
		}
	}
	sum, n := 0.0, 0.0
	for q := lo - 1; q >= 0 && n < recentLast; q-- {
		if v := raters[q]; v < b.from || v >= b.to {
			sum += w.dev[k][v]
			n++
		}
	}
	return sum / (n + shrink)
}

// categories writes mean, least and greatest of the user's deviations over the item's categories, and how often the user met them.
func (b *builder) categories(put func(...float64), r int32, p, k int, mean float64) {
	w := b.w
	cats := w.cats[w.ds.Records[r].Item]
	if len(cats) == 0 {
		put(0, 0, 0, 0)
		return
	}
	var sum, count float64
	least, most := math.Inf(1), math.Inf(-1)
	for _, c := range cats {
		s, n := b.catSum[k][c], b.catN[c]
		if w.visible[r] {
			s, n = s-b.res[k][p], n-1
		}
		v := (s - n*mean) / (n + 3)
		sum += v
		count += math.Log1p(n)
		least, most = min(least, v), max(most, v)
	}
	n := float64(len(cats))
	put(sum/n, least, most, count/n)
}

// clock writes what the times say: gap since the user's last visible record, age of the user and of the item, the time in years,
// month and weekday as points on a circle (UTC). Zero where the record has no time.
func (b *builder) clock(put func(...float64), r int32, p int) {
	rec := b.w.ds.Records[r]
	if !rec.HasTime {
		put(0, 0, 0, 0, 0, 0, 0, 0)
		return
	}
	since := func(t int64) float64 {
		if t <= math.MinInt64/4 || t > rec.Time {
			return 0
		}
		return math.Log1p(float64(rec.Time-t) / 3600)
	}
	var gap, userAge, itemAge float64
	if before := b.before(p); len(before) > 0 {
		gap, userAge = since(b.w.seconds[b.recs[before[len(before)-1]]]), since(b.w.seconds[b.recs[before[0]]])
	}
	if b.w.itemN[rec.Item] > 0 {
		itemAge = since(b.w.first[rec.Item])
	}
	at := time.Unix(rec.Time, 0).UTC()
	ms, mc := math.Sincos(2 * math.Pi * float64(at.Month()-1) / 12)
	ds, dc := math.Sincos(2 * math.Pi * float64(at.Weekday()) / 7)
	put(gap, userAge, itemAge, float64(rec.Time)/(365.25*day), ms, mc, ds, dc)
}

// prices writes the item's log price, and its distance from the mean of the user's other visible items with a price.
func (b *builder) prices(put func(...float64), r int32, p int) {
	price := b.w.price[b.w.ds.Records[r].Item]
	if math.IsNaN(price) {
		put(0, 0)
		return
	}
	sum, n := 0.0, 0.0
	for _, q := range b.seen {
		if v := b.w.price[b.w.ds.Records[b.recs[q]].Item]; int(q) != p && !math.IsNaN(v) {
			sum += v
			n++
		}
	}
	shift := 0.0
	if n > 0 {
		shift = price - sum/n
	}
	put(price, shift)
}

// logPrice reads the first number of a price such as "$173" and returns log(1+price), NaN when there is none.
func logPrice(s string) float64 {
	s = strings.TrimLeft(strings.TrimSpace(s), "$€£ ")
	end := strings.IndexFunc(s, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
	if end < 0 {
		end = len(s)
	}
	v, err := strconv.ParseFloat(s[:end], 64)
	if err != nil || v < 0 || math.IsInf(v, 0) {
		return math.NaN()
	}
	return math.Log1p(v)
}
