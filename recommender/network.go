package recommender

import (
	"math"
	"math/rand/v2"

	"recpie/internal/torch"
)

// Inputs are the six embeddings in the paper's order I = [pos, neg, c, p, seq, context].
var Inputs = [6]string{"pos", "neg", "c", "p", "seq", "context"}

const (
	tableUsers = "consumer" // E_c [users+1, d], row 0 for unknown
	tableItems = "product"  // E_p [items+1, d]
	normEps    = 1e-5
)

// initialise makes the parameters: ids N(0, .01²), matrices uniform within ±1/√(inputs), the last layer zero.
func (m *Model) initialise(seed int64) error {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x11e7))
	set := m.settings
	d, f, a := set.Dim, len(m.data.Features.Names), m.data.Text.Dim()
	m.params = torch.NewParams()
	var err error
	add := func(name string, data []float32, shape ...int64) {
		if err == nil {
			_, err = m.params.Add(name, data, shape...)
		}
	}
	normal := func(name string, sd float64, rows, cols int) {
		data := make([]float32, rows*cols)
		for k := range data {
			data[k] = float32(sd * rng.NormFloat64())
		}
		add(name, data, int64(rows), int64(cols))
	}
	linear := func(name string, out, in int) {
		data, limit := make([]float32, out*in), 1/math.Sqrt(float64(in))
		for k := range data {
			data[k] = float32(limit * (2*rng.Float64() - 1))
		}
		add(name+".weight", data, int64(out), int64(in))
		add(name+".bias", make([]float32, out), int64(out))
	}
	norm := func(name string) {
		ones := make([]float32, d)
		for k := range ones {
			ones[k] = 1
		}
		add(name+".weight", ones, int64(d))
		add(name+".bias", make([]float32, d), int64(d))
	}
	normal(tableUsers, .01, len(m.data.ds.Users)+1, d)
	normal(tableItems, .01, len(m.data.ds.Items)+1, d)
	normal("type", .1, len(Inputs), d)
	linear("context", d, f+a)
	if m.textDim > 0 {
		linear("text", d, m.textDim)
	}
	normal("seq.rating", .1, ratingBuckets, d)
	normal("seq.position", .01, set.History, d)
	normal("seq.empty", .01, 1, d)
	for _, name := range []string{"seq.q", "seq.k", "seq.v", "seq.o", "seq.ffn1", "seq.ffn2"} {
		linear(name, d, d)
	}
	norm("seq.norm1")
	norm("seq.norm2")
	for _, name := range []string{"attention.q", "attention.k", "attention.v", "attention.o"} {
		linear(name, d, d)
	}
	norm("attention.norm")
	head := func(name string, in int) {
		linear(name+".0", set.Hidden[0], in)
		linear(name+".1", set.Hidden[1], set.Hidden[0])
		add(name+".2.weight", make([]float32, set.Hidden[1]), 1, int64(set.Hidden[1]))
		add(name+".2.bias", make([]float32, 1), 1)
	}
	head("mlp", m.tokens()*d)
	head("direct", m.bins.width()+a)
	m.initialiseSpread(linear, add)
	return err
}

// tokens is the number of embeddings: six, or four for a network without explanations.
func (m *Model) tokens() int {
	if m.textDim > 0 {
		return len(Inputs)
	}
	return len(Inputs) - 2
}

// forward holds what one pass needs beside the weights.
type forward struct {
	s      *torch.Scope
	m      *Model
	lookup func(table string, ids []int64) *torch.Tensor // rows of an embedding table
	drop   *rand.PCG                                     // nil: no dropout
}

// output of a pass over B records with T tokens and H heads.
type output struct {
	y         *torch.Tensor // [B]: prediction, or logit of the click for BCE
	attention *torch.Tensor // [B,H,T,T], rows sum to 1
	ids       *torch.Tensor // mean over the batch of the squared norms of consumer and product embeddings
}

func (f *forward) p(name string) *torch.Tensor { return f.m.params.Get(name) }

func (f *forward) linear(x *torch.Tensor, name string) *torch.Tensor {
	return f.s.Linear(x, f.p(name+".weight"), f.p(name+".bias"))
}

func (f *forward) norm(x *torch.Tensor, name string) *torch.Tensor {
	return f.addNorm(x, nil, name)
}

// addNorm is the norm of x + y.
func (f *forward) addNorm(x, y *torch.Tensor, name string) *torch.Tensor {
	return f.s.AddNorm(x, y, f.p(name+".weight"), f.p(name+".bias"), normEps)
}

// layer is a linear layer with ReLU and dropout.
func (f *forward) layer(x *torch.Tensor, name string, dropout float64) *torch.Tensor {
	w := f.p(name + ".weight")
	return f.s.LinearRelu(x, w, f.p(name+".bias"), f.mask(x.NumElements()/max(x.Dim(-1), 1)*w.Dim(0), dropout))
}

// mask draws what dropout multiplies with: 0 with probability p, else 1/(1−p); nil where nothing is dropped. It has a generator of its
// own, so that a seed gives the same network whatever else uses libtorch.
func (f *forward) mask(n int64, p float64) *torch.Tensor {
	if f.drop == nil || p == 0 || n == 0 {
		return nil
	}
	mask := f.s.Ones(torch.Float32, n)
	torch.Dropout(f.drop, mask.F32View(), p)
	return mask
}

// inputs shows numbers that the network reads, [B, ·], with dropout while it trains.
func (f *forward) inputs(x *torch.Buffer, shape ...int64) *torch.Tensor {
	if f.drop != nil {
		torch.Dropout(f.drop, x.Filled(), f.m.settings.InputDropout)
	}
	return f.s.View(x, shape...)
}

func (f *forward) run(b *batch) output {
	s, set := f.s, f.m.settings
	n, d, t := int64(b.size), int64(set.Dim), int64(f.m.tokens())
	features := f.inputs(&b.context, n, b.context.Width(n))
	consumer, products := f.lookup(tableUsers, b.users), f.lookup(tableItems, b.items)
	product := s.Narrow(products, 0, 0, n)
	var tokens []*torch.Tensor
	if f.m.textDim > 0 {
		texts := f.inputs(&b.texts, n, 2, int64(f.m.textDim))
		texts = f.leaveOut(s.Mul(f.linear(texts, "text"), s.Float32(b.hasText, n, 2, 1)), set.NoText)
		tokens = append(tokens, s.Select(texts, 1, 0), s.Select(texts, 1, 1))
	}
	sequence := f.leaveOut(f.sequence(b, s.Narrow(products, 0, n, int64(len(b.ratings)))), set.NoSequence)
	tokens = append(tokens, consumer, product, sequence, f.linear(features, "context"))
	x := s.Stack(1, tokens...)
	x = s.Add(x, s.Narrow(f.p("type"), 0, int64(len(Inputs))-t, t))

	z, alpha := f.attend(x)
	y := s.Add(f.head(s.Reshape(z, n, t*d), "mlp"), f.head(f.inputs(&b.direct, n, b.direct.Width(n)), "direct"))
	y = s.Add(y, s.Float32(f.offset(b), n))
	ids := s.MulS(s.Add(s.Sum(s.Square(consumer)), s.Sum(s.Square(product))), 1/float64(n))
	return output{y, alpha, ids}
}

// head is a perceptron with two hidden layers and one output, [B,·] → [B], zero at the start.
func (f *forward) head(x *torch.Tensor, name string) *torch.Tensor {
	drop := f.m.settings.Dropout
	h := f.layer(f.layer(x, name+".0", drop), name+".1", drop)
	return f.s.Reshape(f.linear(h, name+".2"), -1)
}

// leaveOut sets the embeddings of a share of the records to zero while training: those that are left are not enlarged.
func (f *forward) leaveOut(x *torch.Tensor, share float64) *torch.Tensor {
	if f.drop == nil || share == 0 || x == nil {
		return x
	}
	shape := x.Shape()
	mask, rng := make([]float32, shape[0]), rand.New(f.drop)
	for k := range mask {
		if rng.Float64() >= share {
			mask[k] = 1
		}
	}
	for k := range shape[1:] {
		shape[k+1] = 1
	}
	return f.s.Mul(x, f.s.Float32(mask, shape...))
}

// offset is where a network of zeros starts: the base, and for clicks the base's distance from the threshold, four times enlarged.
func (f *forward) offset(b *batch) []float32 {
	if f.m.settings.Loss == MSE {
		return b.base
	}
	logits := make([]float32, len(b.base))
	for k, y := range b.base {
		logits[k] = 4 * (y - ClickAt)
	}
	return logits
}

// attend is the attention layer over the tokens x [B,T,d]: LN(α V W_O) and α.
func (f *forward) attend(x *torch.Tensor) (z, alpha *torch.Tensor) {
	p := func(name string) *torch.Tensor { return f.p("attention." + name) }
	mixed, alpha := f.s.TokenAttention(x, torch.Projections{WQ: p("q.weight"), BQ: p("q.bias"), WK: p("k.weight"), BK: p("k.bias"),
		WV: p("v.weight"), BV: p("v.bias")}, int64(f.m.settings.Heads))
	mixed = f.linear(mixed, "attention.o")
	if f.m.settings.Residual {
		return f.addNorm(mixed, x, "attention.norm"), alpha
	}
	return f.norm(mixed, "attention.norm"), alpha
}

// sequence is the last state of one causal self-attention block over the rated history (SASRec's block, aware of ratings): only
// the latest entry's query is needed, and it sees all others. products is E_p of the histories, [L, d]. A record without a history
// gets the vector that was learned for that.
func (f *forward) sequence(b *batch, products *torch.Tensor) *torch.Tensor {
	s := f.s
	if b.histories.Len() == 0 {
		return s.Rows(f.p("seq.empty"), b.some)
	}
	x := s.HistoryRows(products, f.p("seq.rating"), f.p("seq.position"), b.ratings, b.histories)
	last := s.Rows(x, b.histories.Starts[:b.histories.Len()])
	z := s.HistoryAttention(f.linear(last, "seq.q"), x, f.p("seq.k.weight"), f.p("seq.v.weight"), f.p("seq.v.bias"), b.histories,
		int64(f.m.settings.Heads))
	h := f.addNorm(last, f.linear(z, "seq.o"), "seq.norm1")
	h = f.addNorm(h, f.linear(f.layer(h, "seq.ffn1", 0), "seq.ffn2"), "seq.norm2")
	return s.Rows(s.Cat(0, f.p("seq.empty"), h), b.some)
}
