package store

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnAnswerIsKeptOnce(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path)
	first := []Answer{{Identity: Identity{1}, Text: "room", Raw: "Room.", Tokens: 2}, {Identity: Identity{2}, Raw: "!", Reason: "no_terms", Tokens: 1}}
	if n, err := s.PutAnswers(ctx, first); err != nil || n != 2 {
		t.Fatalf("%d new, %v", n, err)
	}
	if n, err := s.PutAnswers(ctx, []Answer{{Identity: Identity{1}, Text: "other"}, {Identity: Identity{3}, Text: "new"}}); err != nil || n != 1 {
		t.Fatalf("%d new, %v: the first answer stays", n, err)
	}
	_ = s.Close()

	s = open(t, path)
	var ids []Identity // more than one query takes
	for i := range 3 * askedAtOnce {
		ids = append(ids, Identity{byte(i), byte(i >> 8)})
	}
	got, err := s.Answers(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Identity]Answer{{1}: first[0], {2}: first[1], {3}: {Identity: Identity{3}, Text: "new"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err := s.Answers(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []Answer{{Identity: Identity{4}}, {Identity: Identity{5}, Text: "a", Reason: "b"}} {
		if _, err := s.PutAnswers(ctx, []Answer{{Identity: Identity{6}, Text: "good"}, bad}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if got, err := s.Answers(ctx, []Identity{{6}}); err != nil || len(got) != 0 {
		t.Errorf("half a transaction is there: %v, %v", got, err)
	}
}
