package lm

import (
	"math"
	"math/rand/v2"
)

// Scales of the circuit in a model with rotary positions, found by hand like those of GPT-2's.
const (
	rotaryBefore = 7.0 // length of the first layer's query and key in each fast plane
	rotaryMatch  = 1.6 // strength of the second layer's comparison
	rotarySlow   = 0.7 // radians over rotaryReach positions below which a plane counts as standing still
	rotaryReach  = 256
)

// initRotaryInduction is InitInduction where positions are rotations and queries, keys and values have biases (Qwen2). The head of the first layer
// has the same query and key at every position, from the biases, the query turned back by one step in the fast planes, so that their product is
// largest with the position before. What the second layer compares lies in the slow planes, which a rotation over a prompt's length leaves
// nearly as they are. The width is divided as in GPT-2, the first h dimensions being free.
func (m *Model) initRotaryInduction(seed int64) bool {
	cfg := m.Cfg
	d, h := cfg.HiddenSize, cfg.HeadDim
	freq := cfg.frequencies()
	var fast, slow []int
	for i, w := range freq {
		switch {
		case w > 0.05:
			fast = append(fast, i)
		case float64(w)*rotaryReach < rotarySlow:
			slow = append(slow, i)
		}
	}
	if cfg.NumLayers < 2 || cfg.NumHeads < 5 || cfg.NumKVHeads != cfg.NumHeads || d != h*cfg.NumHeads || !cfg.QKVBias || !cfg.TiedEmbeddings || len(fast) < 2 || len(slow) < h/4 {
		return false
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x1d0c))
	tok, note, half := h, 4*h, h/2
	embeds := m.weight("embed_tokens.weight")
	for i := range embeds {
		embeds[i] = 0
		if c := i % d; c >= tok && c < note {
			embeds[i] = float32(rng.NormFloat64() * inductionTok)
		}
	}
	sketch := orthonormal(rng, 3*h)
	// Matrices are [out, in] here: a row is what one output reads.
	head := func(layer, k int) (q, key, v int, w, bias, out []float32) {
		name := cfg.layerName(layer, "self_attn.")
		w, bias, out = m.weight(name+"qkv_proj.weight"), m.weight(name+"qkv_proj.bias"), m.weight(name+"o_proj.weight")
		q, key, v = k*h, d+k*h, 2*d+k*h
		for _, from := range []int{q, key, v} {
			clear(w[from*d : (from+h)*d])
			clear(bias[from : from+h])
		}
		clearColumns(out, d, d, k*h, (k+1)*h)
		return q, key, v, w, bias, out
	}

	q, key, v, w, bias, out := head(0, 0)
	for _, i := range fast {
		angle := float64(freq[i])
		bias[key+i] = rotaryBefore
		bias[q+i], bias[q+half+i] = float32(rotaryBefore*math.Cos(angle)), float32(-rotaryBefore*math.Sin(angle))
	}
	for j := range h {
		for i := range 3 * h {
			set(w, d, v+j, tok+i, sketch[j][i])
		}
		set(out, d, note+j, j, inductionCopy)
	}
	for k := range 3 {
		q, key, v, w, _, out := head(1, k)
		for n, plane := range slow {
			for side, at := range []int{plane, plane + half} {
				j := 2*n + side // a number of the noted token
				set(w, d, key+at, note+j, 1)
				for i := range 3 * h {
					set(w, d, q+at, tok+i, rotaryMatch*sketch[j][i])
				}
			}
		}
		for j := range h {
			for i := range 3 * h {
				set(w, d, v+j, tok+i, sketch[k*h+j][i])
				set(out, d, tok+i, k*h+j, inductionWrite*sketch[k*h+j][i])
			}
		}
	}
	return true
}
