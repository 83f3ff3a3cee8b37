package lm

import (
	"math"
	"math/rand/v2"
)

// Scales of the initial circuit, found by hand: attention that looks mostly, not only, where it should, so that training can move it.
const (
	inductionPos   = 0.1  // amplitude of the position's waves
	inductionTok   = 0.05 // deviation of the token embeddings
	inductionCopy  = 0.05 // strength of what the first layer writes
	inductionWrite = 0.1  // strength of what the second layer writes
)

// InitInduction gives a fresh model, before any training, the circuit by which transformers copy: a head of the first layer attends
// to the position before and notes its token; heads of the second layer look for positions whose noted token is the present one, and
// predict what stands there ("induction heads", Olsson et al. 2022). A small model finds it by itself only after many hundred steps,
// and until then writes fluent sentences about reasons that are not in its prompt.
//
// The width is divided by heads of size h: positions as waves in the first h dimensions, tokens in the next 3h, the noted token in the
// next h. Models with fewer than two layers or five heads, and those of Llama's family without biases of queries and keys, are left as they are;
// false says so.
func (m *Model) InitInduction(seed int64) bool {
	cfg := m.Cfg
	if !cfg.gpt() {
		return m.initRotaryInduction(seed)
	}
	d, h := cfg.HiddenSize, cfg.HeadDim
	if cfg.NumLayers < 2 || cfg.NumHeads < 5 {
		return false
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x1d0c))
	tok, note := h, 4*h // where tokens and the noted token begin

	wte := m.weight("wte.weight") // [vocabulary, d]
	for i := range wte {
		wte[i] = 0
		if c := i % d; c >= tok && c < note {
			wte[i] = float32(rng.NormFloat64() * inductionTok)
		}
	}
	wpe := m.weight("wpe.weight") // [positions, d]
	clear(wpe)
	freq := make([]float64, h/2)
	for f := range freq {
		freq[f] = 0.1 + rng.Float64()*(math.Pi-0.1)
	}
	for p := range cfg.MaxPositions {
		for f, w := range freq {
			wpe[p*d+2*f] = float32(inductionPos * math.Cos(w*float64(p)))
			wpe[p*d+2*f+1] = float32(inductionPos * math.Sin(w*float64(p)))
		}
	}

	// layer 0, head 0: the query is the position turned back by one step, the key the position
	qkv := m.weight("h.0.attn.c_attn.weight") // [d, 3d]
	clearColumns(qkv, d, 3*d, 0, h)
	clearColumns(qkv, d, 3*d, d, d+h)
	clearColumns(qkv, d, 3*d, 2*d, 2*d+h)
	for f, w := range freq {
		c, s := float32(math.Cos(w)), float32(math.Sin(w))
		x, y := 2*f, 2*f+1
		set(qkv, 3*d, x, x, c)
		set(qkv, 3*d, y, x, s)
		set(qkv, 3*d, x, y, -s)
		set(qkv, 3*d, y, y, c)
		set(qkv, 3*d, x, d+x, 1)
		set(qkv, 3*d, y, d+y, 1)
	}
	sketch := orthonormal(rng, 3*h)           // its first h rows tell tokens apart, its three thirds together copy one
	out := m.weight("h.0.attn.c_proj.weight") // [d, d]
	for j := range h {
		for i := range 3 * h {
			set(qkv, 3*d, tok+i, 2*d+j, sketch[j][i])
		}
		clear(out[j*d : (j+1)*d])
		set(out, d, j, note+j, inductionCopy)
	}

	// layer 1, heads 0 to 2: the query is the present token, the key the noted one, the value a third of the token that stands there
	qkv = m.weight("h.1.attn.c_attn.weight")
	out = m.weight("h.1.attn.c_proj.weight")
	for k := range 3 {
		for _, from := range []int{k * h, d + k*h, 2*d + k*h} {
			clearColumns(qkv, d, 3*d, from, from+h)
		}
		for j := range h {
			set(qkv, 3*d, note+j, d+k*h+j, 1)
			clear(out[(k*h+j)*d : (k*h+j+1)*d])
			for i := range 3 * h {
				set(qkv, 3*d, tok+i, k*h+j, sketch[j][i])
				set(qkv, 3*d, tok+i, 2*d+k*h+j, sketch[k*h+j][i])
				set(out, d, k*h+j, tok+i, inductionWrite*sketch[k*h+j][i])
			}
		}
	}
	return true
}

func set(w []float32, columns, row, column int, v float32) { w[row*columns+column] = v }

func clearColumns(w []float32, rows, columns, from, to int) {
	for r := range rows {
		clear(w[r*columns+from : r*columns+to])
	}
}

// orthonormal draws n orthonormal vectors of length n (Gram–Schmidt).
func orthonormal(rng *rand.Rand, n int) [][]float32 {
	rows := make([][]float64, n)
	for i := range rows {
		v := make([]float64, n)
		for k := range v {
			v[k] = rng.NormFloat64()
		}
		for _, u := range rows[:i] {
			dot := 0.0
			for k := range v {
				dot += u[k] * v[k]
			}
			for k := range v {
				v[k] -= dot * u[k]
			}
		}
		ss := 0.0
		for _, x := range v {
			ss += x * x
		}
		for k := range v {
			v[k] /= math.Sqrt(ss)
		}
		rows[i] = v
	}
	out := make([][]float32, n)
	for i, v := range rows {
		out[i] = make([]float32, n)
		for k, x := range v {
			out[i][k] = float32(x)
		}
	}
	return out
}
