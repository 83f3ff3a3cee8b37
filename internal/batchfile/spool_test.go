package batchfile

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// What was put into a spool comes back by number, in any order, and reading between adding does no harm.
func TestSpoolGivesBackWhatItWasGiven(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, err := NewSpool()
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		var want [][]byte
		for range rapid.IntRange(0, 3*spoolBlock).Draw(rt, "n") {
			text := []byte(rapid.StringN(0, 300, -1).Draw(rt, "text"))
			want = append(want, text)
			if err := s.Add(text); err != nil {
				rt.Fatal(err)
			}
			if len(text)%5 == 0 {
				if got, err := s.At(s.Len() - 1); err != nil || !bytes.Equal(got, text) {
					rt.Fatalf("the last text: %q, %v; want %q", got, err, text)
				}
			}
		}
		if s.Len() != int64(len(want)) {
			rt.Fatalf("%d texts, want %d", s.Len(), len(want))
		}
		for range min(len(want), 20) {
			i := rapid.IntRange(0, len(want)-1).Draw(rt, "i")
			if got, err := s.At(int64(i)); err != nil || !bytes.Equal(got, want[i]) {
				rt.Fatalf("text %d: %q, %v; want %q", i, got, err, want[i])
			}
		}
		for _, i := range []int64{-1, int64(len(want))} {
			if _, err := s.At(i); err == nil {
				rt.Fatalf("text %d of %d", i, len(want))
			}
		}
	})
}

func TestSpoolMemoryPerText(t *testing.T) {
	measured(t)
	before := heap()
	s, err := NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 200_000
	for i := range n {
		if err := s.Add(fmt.Appendf(nil, "request-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	per := (heap() - before - 1<<16) / n
	t.Logf("%.3f bytes per text", per)
	if per > 0.5 {
		t.Errorf("%.3f bytes per text", per)
	}
}
