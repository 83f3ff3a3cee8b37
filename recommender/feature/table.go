package feature

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// Options bounds the work. The zero value means the defaults.
type Options struct {
	MaxRaters int // of an item, the latest so many are compared with the user for the neighbourhood statistics, 0 = 1000
	Workers   int // 0 = GOMAXPROCS
}

func (o Options) withDefaults() Options {
	if o.MaxRaters <= 0 {
		o.MaxRaters = 1000
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return o
}

// Table holds the raw statistics of all records of a data set, one row of len(Names) per record.
type Table struct {
	Names []string
	X     []float32
	View  string // digest of the view that it was computed through

	more []float32 // rows of the candidates that With added, which come after those of X
}

// Row returns the statistics of record rec. The caller must not change them.
func (t *Table) Row(rec int32) []float32 {
	f, x, at := len(t.Names), t.X, int(rec)*len(t.Names)
	if at >= len(x) {
		x, at = t.more, at-len(x)
	}
	return x[at : at+f : at+f]
}

// Build computes the table of a view. Users are independent of each other and are shared out among the workers; the result does
// not depend on their number. It fails only when ctx ends.
func Build(ctx context.Context, view *dataset.View, opts Options) (*Table, error) {
	opts = opts.withDefaults()
	if len(view.Records()) == 0 {
		return nil, fault.Newf(fault.Fatal, "feature", "the view shows no record")
	}
	w := newWorld(view, opts.MaxRaters)
	t := &Table{Names: slices.Clone(names), X: make([]float32, len(w.ds.Records)*len(names)), View: view.Digest()}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(opts.Workers, len(w.ds.Users)) {
		group.Go(func() error {
			b := newBuilder(w, t)
			for u := next.Add(1) - 1; int(u) < len(w.ds.Users); u = next.Add(1) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				b.user(int32(u))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return t, nil
}

// world is what all users share. Arrays with [2] hold one version per half of the global mean.
type world struct {
	ds      *dataset.Dataset
	view    *dataset.View
	mu      [2]float64
	y       []float64    // per record, 0 where invisible
	visible []bool       // per record
	dev     [2][]float64 // per visible record: y − mu − the user's shrunken plain mean
	itemSum [2][]float64
	itemSq  [2][]float64
	itemN   []float64
	raters  [][]int32 // per item: its visible records, by time
	first   []int64   // per item: time of its first visible record
	cats    [][]int32 // per item
	nCats   int
	price   []float64 // per item: log price, NaN when unknown
	seconds []int64   // per record
}

const shrink = 5 // records of prior weight in the shrunken means

// quantum is the unit of all summed values; 2^20 of them below 2 sum without rounding.
const quantum = 1.0 / (1 << 32)

func quantise(x float64) float64 { return math.RoundToEven(x/quantum) * quantum }

// half draws the half of the global mean that record r belongs to: by its index, or that of a candidate, which may stand anywhere, by
// its pair.
func (w *world) half(r int32) int {
	if rec := w.ds.Records[r]; int(r) >= w.ds.Rated() {
		return half(uint64(rec.User)<<32 | uint64(rec.Item))
	}
	return half(uint64(r))
}

// half is a bit of splitmix64 of x.
func half(x uint64) int {
	z := x + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) & 1)
}

func newWorld(view *dataset.View, maxRaters int) *world {
	ds := view.Dataset()
	n := len(ds.Records)
	w := &world{ds: ds, view: view, y: make([]float64, n), visible: make([]bool, n), seconds: make([]int64, n)}
	var sum, count [2]float64
	for r := range ds.Records {
		w.seconds[r] = ds.Records[r].Time
		if !ds.Records[r].HasTime {
			w.seconds[r] = math.MinInt64 / 4
		}
		y, ok := view.Y(int32(r))
		if !ok {
			continue
		}
		w.y[r], w.visible[r] = quantise(float64(y)), true
		for k := range 2 {
			if half(uint64(r)) != k {
				sum[k] += w.y[r]
				count[k]++
			}
		}
	}
	for k := range 2 {
		w.mu[k] = .5 // when a tiny view leaves a half empty
		if count[k] > 0 {
			w.mu[k] = quantise(sum[k] / count[k])
		}
	}
	w.deviations()
	w.items(maxRaters)
	return w
}

func (w *world) deviations() {
	w.itemN = make([]float64, len(w.ds.Items))
	for k := range 2 {
		w.dev[k] = make([]float64, len(w.ds.Records))
		w.itemSum[k], w.itemSq[k] = make([]float64, len(w.ds.Items)), make([]float64, len(w.ds.Items))
	}
	for u := range w.ds.Users {
		recs := w.view.OfUser(int32(u))
		sum := 0.0
		for _, r := range recs {
			sum += w.y[r]
		}
		n := float64(len(recs))
		for _, r := range recs {
			i := w.ds.Records[r].Item
			w.itemN[i]++
			for k := range 2 {
				d := quantise(w.y[r] - w.mu[k] - (sum-n*w.mu[k])/(n+shrink))
				w.dev[k][r] = d
				w.itemSum[k][i] += d
				w.itemSq[k][i] += quantise(d * d)
			}
		}
	}
}

func (w *world) items(maxRaters int) {
	w.raters, w.first = make([][]int32, len(w.ds.Items)), make([]int64, len(w.ds.Items))
	w.cats, w.price = make([][]int32, len(w.ds.Items)), make([]float64, len(w.ds.Items))
	ids := make(map[string]int32)
	for i := range w.ds.Items {
		recs := slices.Clone(w.view.OfItem(int32(i)))
		slices.SortStableFunc(recs, func(a, b int32) int { return compareInt(w.seconds[a], w.seconds[b]) })
		if len(recs) > 0 {
			w.first[i] = w.seconds[recs[0]]
		}
		if len(recs) > maxRaters {
			recs = recs[len(recs)-maxRaters:]
		}
		w.raters[i] = recs
		for _, c := range w.ds.Items[i].Categories {
			id, ok := ids[c]
			if !ok {
				id = int32(len(ids))
				ids[c] = id
			}
			if !slices.Contains(w.cats[i], id) {
				w.cats[i] = append(w.cats[i], id)
			}
		}
		w.price[i] = logPrice(w.ds.Items[i].Price)
	}
	w.nCats = len(ids)
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
