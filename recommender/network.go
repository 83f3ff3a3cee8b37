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
	drop   *rand.Rand                                    // nil: no dropout
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
	return f.s.LayerNorm(x, f.p(name+".weight"), f.p(name+".bias"), normEps)
}

// dropout draws its masks from its own generator, so that a seed gives the same network whatever else uses libtorch.
func (f *forward) dropout(x *torch.Tensor, p float64) *torch.Tensor {
	if f.drop == nil || p == 0 {
		return x
	}
	mask, keep, limit := make([]float32, x.NumElements()), float32(1/(1-p)), uint32(p*math.MaxUint32)
	for k := range mask {
		if f.drop.Uint32() >= limit {
			mask[k] = keep
		}
	}
	return f.s.Mul(x, f.s.Float32(mask, x.Shape()...))
}

func (f *forward) run(b *batch) output {
	s, set := f.s, f.m.settings
	n, d, t := int64(b.size), int64(set.Dim), int64(f.m.tokens())
	inputs := func(x []float32) *torch.Tensor { return s.Float32(x, n, int64(len(x)/b.size)) }
	around := inputs(b.around)
	features := f.dropout(s.Cat(1, inputs(b.features), around), set.InputDropout)
	consumer, products := f.lookup(tableUsers, b.users), f.lookup(tableItems, b.items)
	product := s.Narrow(products, 0, 0, n)
	var tokens []*torch.Tensor
	if f.m.textDim > 0 {
		texts := f.dropout(s.Float32(b.texts, n, 2, int64(f.m.textDim)), set.InputDropout)
		texts = f.leaveOut(s.Mul(f.linear(texts, "text"), s.Float32(b.hasText, n, 2, 1)), set.NoText)
		tokens = append(tokens, s.Select(texts, 1, 0), s.Select(texts, 1, 1))
	}
	sequence := f.leaveOut(f.sequence(b, s.Narrow(products, 0, n, n*int64(b.length))), set.NoSequence)
	tokens = append(tokens, consumer, product, sequence, f.linear(features, "context"))
	x := s.Stack(1, tokens...)
	x = s.Add(x, s.Narrow(f.p("type"), 0, int64(len(Inputs))-t, t))

	z, alpha := f.attend(x)
	direct := f.dropout(s.Cat(1, inputs(b.bins), around), set.InputDropout)
	y := s.Add(f.head(s.Reshape(z, n, t*d), "mlp"), f.head(direct, "direct"))
	y = s.Add(y, s.Float32(f.offset(b), n))
	ids := s.MulS(s.Add(s.Sum(s.Square(consumer)), s.Sum(s.Square(product))), 1/float64(n))
	return output{y, alpha, ids}
}

// head is a perceptron with two hidden layers and one output, [B,·] → [B], zero at the start.
func (f *forward) head(x *torch.Tensor, name string) *torch.Tensor {
	drop := f.m.settings.Dropout
	h := f.dropout(f.s.Relu(f.linear(x, name+".0")), drop)
	h = f.dropout(f.s.Relu(f.linear(h, name+".1")), drop)
	return f.s.Reshape(f.linear(h, name+".2"), -1)
}

// leaveOut sets the embeddings of a share of the records to zero while training: those that are left are not enlarged.
func (f *forward) leaveOut(x *torch.Tensor, share float64) *torch.Tensor {
	if f.drop == nil || share == 0 || x == nil {
		return x
	}
	shape := x.Shape()
	mask := make([]float32, shape[0])
	for k := range mask {
		if f.drop.Float64() >= share {
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

// heads splits the last dimension: [B,L,d] → [B,H,L,d/H].
func (f *forward) heads(x *torch.Tensor) *torch.Tensor {
	sh, h := x.Shape(), int64(f.m.settings.Heads)
	if len(sh) != 3 {
		return x // a failed scope: the error is already set
	}
	return f.s.Transpose(f.s.Reshape(x, sh[0], sh[1], h, sh[2]/h), 1, 2)
}

func (f *forward) scores(q, k *torch.Tensor) *torch.Tensor {
	return f.s.MulS(f.s.MatMul(q, f.s.Transpose(k, -1, -2)), 1/math.Sqrt(float64(f.m.settings.Dim/f.m.settings.Heads)))
}

// attend is the attention layer over the tokens x [B,T,d]: LN(α V W_O) and α.
func (f *forward) attend(x *torch.Tensor) (z, alpha *torch.Tensor) {
	s := f.s
	q, k, v := f.heads(f.linear(x, "attention.q")), f.heads(f.linear(x, "attention.k")), f.heads(f.linear(x, "attention.v"))
	alpha = s.Softmax(f.scores(q, k), -1)
	mixed := f.linear(f.merge(s.MatMul(alpha, v), x), "attention.o")
	if f.m.settings.Residual {
		mixed = s.Add(mixed, x)
	}
	return f.norm(mixed, "attention.norm"), alpha
}

// merge undoes heads; like gives the shape.
func (f *forward) merge(x, like *torch.Tensor) *torch.Tensor {
	return f.s.Reshape(f.s.Transpose(x, 1, 2), like.Shape()...)
}

// sequence is the last state of one causal self-attention block over the rated history (SASRec's block, aware of ratings): only
// the latest entry's query is needed, and it sees all others. products is E_p of the histories, latest first, [B·L, d].
func (f *forward) sequence(b *batch, products *torch.Tensor) *torch.Tensor {
	s, n, l, d := f.s, int64(b.size), int64(b.length), int64(f.m.settings.Dim)
	x := s.Add(products, s.Embedding(f.p("seq.rating"), s.Int64(b.ratings, n*l)))
	x = s.Add(s.Reshape(x, n, l, d), s.Narrow(f.p("seq.position"), 0, 0, l))
	last := s.Narrow(x, 1, 0, 1)
	q, k, v := f.heads(f.linear(last, "seq.q")), f.heads(f.linear(x, "seq.k")), f.heads(f.linear(x, "seq.v"))
	absent := s.LogicalNot(s.Bool(b.present, n, 1, 1, l))
	alpha := s.Softmax(s.MaskedFill(f.scores(q, k), absent, -1e9), -1)
	h := f.norm(s.Add(last, f.linear(f.merge(s.MatMul(alpha, v), last), "seq.o")), "seq.norm1")
	h = f.norm(s.Add(h, f.linear(s.Relu(f.linear(h, "seq.ffn1")), "seq.ffn2")), "seq.norm2")
	return s.Where(s.Bool(b.some, n, 1), s.Reshape(h, n, d), f.p("seq.empty"))
}
