package lm

import (
	"fmt"
	"strconv"
	"strings"
)

// spec is one tensor as a model holds it. Matrices that are multiplied with the same input are held as one, above each other (parts), so that a
// layer needs one product for queries, keys and values; a checkpoint holds the parts under their own names.
type spec struct {
	name  string
	shape []int64
	parts []part // nil: the tensor stands in a checkpoint under its own name
}

// part is a run of rows of a tensor, under its name in a checkpoint.
type part struct {
	name string
	rows int64
}

// pieces returns what a checkpoint holds of the tensor, in the order of its rows.
func (s spec) pieces() []spec {
	if s.parts == nil {
		return []spec{s}
	}
	out := make([]spec, len(s.parts))
	for i, p := range s.parts {
		out[i] = spec{name: p.name, shape: append([]int64{p.rows}, s.shape[1:]...)}
	}
	return out
}

func (s spec) elements() int64 { return elements(s.shape) }

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// prefix stands before all names of a checkpoint but the unembedding's.
func (c Config) prefix() string {
	if c.gpt() {
		return "transformer."
	}
	return "model."
}

// fullName returns a piece's name in a checkpoint.
func (c Config) fullName(piece string) string {
	if piece == "lm_head.weight" {
		return piece
	}
	return c.prefix() + piece
}

// specs lists the model's tensors in a fixed order, under Hugging Face's names without the prefix.
func specs(c Config) []spec {
	if c.gpt() {
		return gpt2Specs(c)
	}
	return llamaSpecs(c)
}

// gpt2Specs: the matrices of the blocks are Conv1D, [in, out].
func gpt2Specs(c Config) []spec {
	d, in := int64(c.HiddenSize), int64(c.IntermediateSize)
	out := []spec{{name: "wte.weight", shape: []int64{int64(c.VocabSize), d}}, {name: "wpe.weight", shape: []int64{int64(c.MaxPositions), d}}}
	add := func(name string, shape ...int64) { out = append(out, spec{name: name, shape: shape}) }
	for i := range c.NumLayers {
		h := "h." + strconv.Itoa(i) + "."
		add(h+"ln_1.weight", d)
		add(h+"ln_1.bias", d)
		add(h+"attn.c_attn.weight", d, 3*d)
		add(h+"attn.c_attn.bias", 3*d)
		add(h+"attn.c_proj.weight", d, d)
		add(h+"attn.c_proj.bias", d)
		add(h+"ln_2.weight", d)
		add(h+"ln_2.bias", d)
		add(h+"mlp.c_fc.weight", d, in)
		add(h+"mlp.c_fc.bias", in)
		add(h+"mlp.c_proj.weight", in, d)
		add(h+"mlp.c_proj.bias", d)
	}
	add("ln_f.weight", d)
	add("ln_f.bias", d)
	return out
}

// llamaSpecs: matrices are [out, in].
func llamaSpecs(c Config) []spec {
	d, in, v := int64(c.HiddenSize), int64(c.IntermediateSize), int64(c.VocabSize)
	q, kv := int64(c.qSize()), int64(c.kvSize())
	var out []spec
	add := func(name string, shape ...int64) { out = append(out, spec{name: name, shape: shape}) }
	above := func(name string, shape []int64, parts ...part) { out = append(out, spec{name, shape, parts}) }
	add("embed_tokens.weight", v, d)
	for i := range c.NumLayers {
		h := "layers." + strconv.Itoa(i) + "."
		a := h + "self_attn."
		add(h+"input_layernorm.weight", d)
		above(a+"qkv_proj.weight", []int64{q + 2*kv, d}, part{a + "q_proj.weight", q}, part{a + "k_proj.weight", kv}, part{a + "v_proj.weight", kv})
		if c.QKVBias {
			above(a+"qkv_proj.bias", []int64{q + 2*kv}, part{a + "q_proj.bias", q}, part{a + "k_proj.bias", kv}, part{a + "v_proj.bias", kv})
		}
		add(a+"o_proj.weight", d, q)
		add(h+"post_attention_layernorm.weight", d)
		if c.Experts == 0 {
			above(h+"mlp.gate_up_proj.weight", []int64{2 * in, d}, part{h + "mlp.gate_proj.weight", in}, part{h + "mlp.up_proj.weight", in})
			add(h+"mlp.down_proj.weight", d, in)
			continue
		}
		m := h + "block_sparse_moe."
		add(m+"gate.weight", int64(c.Experts), d)
		for e := range c.Experts {
			x := h + expertName(e)
			above(x+"w13.weight", []int64{2 * in, d}, part{x + "w1.weight", in}, part{x + "w3.weight", in})
			add(x+"w2.weight", d, in)
		}
	}
	add("norm.weight", d)
	if !c.TiedEmbeddings {
		add("lm_head.weight", v, d)
	}
	return out
}

// target is a module that an adapter may sit on.
type target struct {
	name    string // as in PEFT's target_modules: the path below a layer
	in, out int64
	of      string // the tensor that holds it, below a layer
	from    int64  // its first output there
}

// targets lists the modules of a layer that an adapter with these settings sits on, in a fixed order.
func (c Config) targets(l LoRAConfig) []target {
	d, in, q, kv := int64(c.HiddenSize), int64(c.IntermediateSize), int64(c.qSize()), int64(c.kvSize())
	var attn, mlp []target
	if c.gpt() {
		attn = []target{{"attn.c_attn", d, 3 * d, "attn.c_attn", 0}, {"attn.c_proj", d, d, "attn.c_proj", 0}}
		mlp = []target{{"mlp.c_fc", d, in, "mlp.c_fc", 0}, {"mlp.c_proj", in, d, "mlp.c_proj", 0}}
	} else {
		const a, qkv = "self_attn.", "self_attn.qkv_proj"
		attn = []target{{a + "q_proj", d, q, qkv, 0}, {a + "k_proj", d, kv, qkv, q}, {a + "v_proj", d, kv, qkv, q + kv}, {a + "o_proj", q, d, a + "o_proj", 0}}
		mlp = []target{{"mlp.gate_proj", d, in, "mlp.gate_up_proj", 0}, {"mlp.up_proj", d, in, "mlp.gate_up_proj", in}, {"mlp.down_proj", in, d, "mlp.down_proj", 0}}
	}
	var out []target
	for _, t := range attn {
		if l.takes(t.name, l.Attn) {
			out = append(out, t)
		}
	}
	for _, t := range mlp {
		if c.Experts == 0 && l.takes(t.name, l.MLP) {
			out = append(out, t)
		}
	}
	return out
}

// layerName returns the path of a layer's module or tensor below the prefix.
func (c Config) layerName(layer int, below string) string {
	if c.gpt() {
		return "h." + strconv.Itoa(layer) + "." + below
	}
	return "layers." + strconv.Itoa(layer) + "." + below
}

// ignored reports tensors that a checkpoint may hold without need: buffers, and an unembedding that is the embedding.
func (c Config) ignored(piece string) bool {
	switch {
	case piece == "lm_head.weight":
		return c.TiedEmbeddings
	case c.gpt():
		return strings.HasSuffix(piece, ".attn.bias") || strings.HasSuffix(piece, ".attn.masked_bias")
	}
	return strings.HasSuffix(piece, ".rotary_emb.inv_freq")
}

// checkTensor refuses another shape than the architecture's.
func checkTensor(sp spec, shape []int64) error {
	if fmt.Sprint(shape) != fmt.Sprint(sp.shape) {
		return fmt.Errorf("tensor %q has shape %v, the model needs %v", sp.name, shape, sp.shape)
	}
	return nil
}

// expertName is the path of an expert below its layer.
func expertName(e int) string { return "block_sparse_moe.experts." + strconv.Itoa(e) + "." }
