package adapters

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"

	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/softrow"
)

// SoftPrompt turns a user into soft-prompt rows: the user's embedding from the snapshot of the consumer table goes through the projection.
// It is immutable and safe for concurrent use.
type SoftPrompt struct {
	proj  softrow.Projection
	table []float32 // [users, Dim]
	names []int64   // per user, what nameOf makes of the id; nil when rows are known by their number alone
	index map[int64]int32
}

// NewSoftPrompt makes a soft prompt of a projection and a consumer table, [users, proj.Dim]; they are kept, not copied. Shapes that do not fit and values
// that are not finite are refused.
func NewSoftPrompt(proj softrow.Projection, table []float32) (*SoftPrompt, error) {
	const op = "adapters: soft prompt"
	if err := proj.Check(); err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	if len(table)%proj.Dim != 0 {
		return nil, fault.Newf(fault.Fatal, op, "the table has %d values: they do not fit rows of %d", len(table), proj.Dim)
	}
	for name, xs := range map[string][]float32{"W": proj.W, "b": proj.B, "table": table} {
		for i, x := range xs {
			if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fault.Newf(fault.Fatal, op, "%s: value %d is not finite", name, i)
			}
		}
	}
	return &SoftPrompt{proj: proj, table: table}, nil
}

// Shape returns how many rows a prompt gets and how wide they are.
func (p *SoftPrompt) Shape() (rows, hidden int) { return p.proj.Rows, p.proj.Hidden }

// Users returns how many users the snapshot knows.
func (p *SoftPrompt) Users() int { return len(p.table) / p.proj.Dim }

// Rows returns the soft rows of a user, [rows·hidden]. A user outside the snapshot, as −1, gets the rows of the zero embedding.
func (p *SoftPrompt) Rows(user int32) ([]float32, error) {
	dim := p.proj.Dim
	e := make([]float32, dim)
	if user >= 0 && int(user) < p.Users() {
		e = p.table[int(user)*dim : (int(user)+1)*dim]
	}
	rows, err := p.proj.Forward(e)
	if err != nil {
		return nil, fault.Newf(fault.Fatal, "adapters: soft prompt", "user %d: %w", user, err)
	}
	return rows, nil
}

// write writes the soft prompt as a safetensors file.
func (p *SoftPrompt) write(w io.Writer) error {
	meta := map[string]string{"format": "recpie.soft_prompt.v1", "rows": strconv.Itoa(p.proj.Rows), "norm": strconv.FormatFloat(p.proj.Norm, 'g', -1, 64)}
	out, dim := int64(p.proj.Rows*p.proj.Hidden), int64(p.proj.Dim)
	tensors := []safetensors.Tensor{
		safetensors.F32("projection.W", []int64{out, dim}, p.proj.W),
		safetensors.F32("projection.B", []int64{out}, p.proj.B),
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
	p, err := NewSoftPrompt(softrow.Projection{Rows: k, Hidden: int(shape[0]) / k, Dim: int(shape[1]), Norm: norm, W: w, B: b}, table)
	if _, named := f.Info(namesTensor); err != nil || !named {
		return p, err
	}
	names, _, err := f.Int64s(namesTensor)
	if err != nil {
		return bad(err)
	}
	return p.named(names)
}
