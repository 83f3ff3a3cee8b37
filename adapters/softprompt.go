package adapters

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"

	"recpie/internal/fault"
	"recpie/internal/safetensors"
)

// SoftPrompt turns a user into soft-prompt rows: the user's embedding e from the snapshot of the consumer table goes through the projection,
// z_k = W_k e + b_k, and each row is rescaled to the mean norm of the model's token embeddings. It is immutable and safe for concurrent use.
type SoftPrompt struct {
	k, hidden, dim int
	norm           float64
	w, b           []float32 // [K·H, D], [K·H]
	table          []float32 // [users, D]
	names          []int64   // per user, what nameOf makes of the id; nil when rows are known by their number alone
	index          map[int64]int32
}

// rowEps keeps the rescaling defined for z = 0. It is part of the formula that the trainer differentiates: both must use the same.
const rowEps = 1e-6

// NewSoftPrompt makes a soft prompt of k rows of width hidden out of embeddings of width dim. w is [k·hidden, dim], b [k·hidden], table [users, dim]; they
// are kept, not copied. Shapes that do not fit and values that are not finite are refused.
func NewSoftPrompt(k, hidden, dim int, norm float64, w, b, table []float32) (*SoftPrompt, error) {
	const op = "adapters: soft prompt"
	if k < 1 || hidden < 1 || dim < 1 || !(norm > 0) || math.IsInf(norm, 0) {
		return nil, fault.Newf(fault.Fatal, op, "%d rows, hidden size %d, embedding width %d, norm %v: all must be positive", k, hidden, dim, norm)
	}
	if len(w) != k*hidden*dim || len(b) != k*hidden || len(table)%dim != 0 {
		return nil, fault.Newf(fault.Fatal, op, "W has %d values, b %d, the table %d: they do not fit [%d·%d, %d]", len(w), len(b), len(table), k, hidden, dim)
	}
	for name, xs := range map[string][]float32{"W": w, "b": b, "table": table} {
		for i, x := range xs {
			if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fault.Newf(fault.Fatal, op, "%s: value %d is not finite", name, i)
			}
		}
	}
	return &SoftPrompt{k: k, hidden: hidden, dim: dim, norm: norm, w: w, b: b, table: table}, nil
}

// Shape returns how many rows a prompt gets and how wide they are.
func (p *SoftPrompt) Shape() (rows, hidden int) { return p.k, p.hidden }

// Users returns how many users the snapshot knows.
func (p *SoftPrompt) Users() int { return len(p.table) / p.dim }

// Rows returns the soft rows of a user, [k·hidden]. A user outside the snapshot, as −1, gets the rows of the zero embedding. Rows that are not finite are an
// error: servers answer them with garbage and some keep the damage in their cache.
func (p *SoftPrompt) Rows(user int32) ([]float32, error) {
	e := make([]float32, p.dim)
	if user >= 0 && int(user) < p.Users() {
		e = p.table[int(user)*p.dim : (int(user)+1)*p.dim]
	}
	rows := make([]float32, p.k*p.hidden)
	z := make([]float64, p.hidden)
	for k := range p.k {
		square := rowEps * rowEps
		for h := range z {
			o := k*p.hidden + h
			sum := float64(p.b[o])
			for d, x := range e {
				sum += float64(p.w[o*p.dim+d]) * float64(x)
			}
			z[h] = sum
			square += sum * sum
		}
		length := math.Sqrt(square)
		for h, v := range z {
			row := p.norm * v / length
			if math.IsNaN(row) || math.IsInf(row, 0) {
				return nil, fault.Newf(fault.Fatal, "adapters: soft prompt", "user %d: row %d is not finite", user, k)
			}
			rows[k*p.hidden+h] = float32(row)
		}
	}
	return rows, nil
}

// write writes the soft prompt as a safetensors file.
func (p *SoftPrompt) write(w io.Writer) error {
	meta := map[string]string{"format": "recpie.soft_prompt.v1", "rows": strconv.Itoa(p.k), "norm": strconv.FormatFloat(p.norm, 'g', -1, 64)}
	out, dim := int64(p.k*p.hidden), int64(p.dim)
	tensors := []safetensors.Tensor{
		safetensors.F32("projection.W", []int64{out, dim}, p.w),
		safetensors.F32("projection.B", []int64{out}, p.b),
		safetensors.F32("consumers", []int64{int64(p.Users()), dim}, p.table),
	}
	if p.names != nil {
		tensors = append(tensors, safetensors.I64(namesTensor, []int64{int64(len(p.names))}, p.names))
	}
	return safetensors.Write(w, meta, tensors)
}

// parseSoftPrompt reads what write wrote.
func parseSoftPrompt(data []byte) (*SoftPrompt, error) {
	f, err := safetensors.Parse(bytes.Clone(data))
	if err != nil {
		return nil, fault.New(fault.Fatal, "adapters: soft prompt", err)
	}
	defer f.Close()
	bad := func(err error) (*SoftPrompt, error) { return nil, fault.New(fault.Fatal, "adapters: soft prompt", err) }
	meta := f.Metadata()
	if meta["format"] != "recpie.soft_prompt.v1" {
		return bad(fmt.Errorf("format %q", meta["format"]))
	}
	k, err := strconv.Atoi(meta["rows"])
	if err != nil {
		return bad(err)
	}
	norm, err := strconv.ParseFloat(meta["norm"], 64)
	if err != nil {
		return bad(err)
	}
	w, shape, err := f.Float32("projection.W")
	if err != nil {
		return bad(err)
	}
	b, _, err := f.Float32("projection.B")
	if err != nil {
		return bad(err)
	}
	table, tableShape, err := f.Float32("consumers")
	if err != nil {
		return bad(err)
	}
	if len(shape) != 2 || len(tableShape) != 2 || shape[1] != tableShape[1] || k < 1 || shape[0]%int64(k) != 0 {
		return bad(fmt.Errorf("projection %v and consumers %v do not fit %d rows", shape, tableShape, k))
	}
	p, err := NewSoftPrompt(k, int(shape[0])/k, int(shape[1]), norm, w, b, table)
	if _, named := f.Info(namesTensor); err != nil || !named {
		return p, err
	}
	names, _, err := f.Int64s(namesTensor)
	if err != nil {
		return bad(err)
	}
	return p.named(names)
}
