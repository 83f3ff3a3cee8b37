package lm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Every plan must spell out every sequence along its path, with parents that are equal to the sequence before them.
func TestPlanSpellsEverySequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		var seqs [][]int64
		for range n {
			var s []int64
			if len(seqs) > 0 && rapid.Bool().Draw(t, "share") {
				from := seqs[rapid.IntRange(0, len(seqs)-1).Draw(t, "of")]
				s = append(s, from[:rapid.IntRange(0, len(from)).Draw(t, "keep")]...)
			}
			s = append(s, rapid.SliceOfN(rapid.Int64Range(-2, 2), 0, 120).Draw(t, "own")...)
			if len(s) == 0 {
				s = []int64{1}
			}
			seqs = append(seqs, s)
		}
		p := newPlan(seqs, true)
		total := 0
		for i, s := range seqs {
			total += len(s)
			u := p.index[i]
			if !slices.Equal(p.keys[u], s) {
				t.Fatalf("sequence %d is taken for another", i)
			}
			pos, parent := 0, -1
			for l, at := range p.paths[u] {
				nd := p.levels[at.level].nodes[at.row]
				if at.level != l || nd.parent != parent || nd.from != pos || nd.to <= nd.from {
					t.Fatalf("sequence %d: broken path %+v at %+v", i, p.paths[u], nd)
				}
				if !slices.Equal(p.keys[nd.seq][:nd.to], s[:nd.to]) {
					t.Fatalf("sequence %d: node %+v holds other tokens", i, nd)
				}
				pos, parent = nd.to, at.row
			}
			if pos != len(s) {
				t.Fatalf("sequence %d ends at %d of %d", i, pos, len(s))
			}
			for q := range s {
				if l, flat := p.at(u, q); l < 0 || flat < 0 {
					t.Fatalf("position %d of sequence %d is nowhere", q, i)
				}
			}
		}
		if p.computed() > total {
			t.Fatalf("%d positions computed of %d", p.computed(), total)
		}
	})
}

func TestPlanSharesWhatIsWorthIt(t *testing.T) {
	base := make([]int64, 100)
	for i := range base {
		base[i] = int64(i % 7)
	}
	var seqs [][]int64
	for k := range 4 { // a pair's history, two polarities, each asked twice
		seqs = append(seqs, append(slices.Clone(base), int64(100+k/2), 5))
	}
	p := newPlan(seqs, true)
	if len(p.keys) != 2 || p.computed() != 104 {
		t.Errorf("%d distinct sequences and %d positions, want 2 and 104", len(p.keys), p.computed())
	}
	if q := newPlan(seqs, false); q.computed() != 204 || len(q.levels) != 1 {
		t.Errorf("without sharing: %d positions in %d levels, want 204 in 1", q.computed(), len(q.levels))
	}
}

// However sequences share and differ in length, a part keeps to the memory it may take, unless one sequence alone exceeds it, and takes
// what comes first.
func TestPartsKeepToTheirMemory(t *testing.T) {
	c := Config{NumLayers: 2, HiddenSize: 8, NumHeads: 2}.withDefaults()
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.IntRange(1, 4<<20).Draw(t, "bytes")
		base := make([]int64, 400)
		var keys [][]int64
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			tail := make([]int64, rapid.IntRange(1, 200).Draw(t, "tail"))
			for i := range tail {
				tail[i] = rapid.Int64Range(1, 3).Draw(t, "id")
			}
			keys = append(keys, append(slices.Clone(base[:rapid.IntRange(0, len(base)).Draw(t, "shared")]), tail...))
		}
		order := make([]int, len(keys))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return slices.Compare(keys[a], keys[b]) })
		pl, n := fittingPlan(c, order, keys, maxTokens(c, bytes), bytes)
		if n < 1 || n > 1 && pl.bytes(c) > bytes {
			t.Fatalf("%d sequences take %d bytes of %d", n, pl.bytes(c), bytes)
		}
		for i := range n {
			if !slices.Equal(pl.keys[pl.index[i]], keys[order[i]]) {
				t.Fatalf("sequence %d of the part is another", i)
			}
		}
	})
}
