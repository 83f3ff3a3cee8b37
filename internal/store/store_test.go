package store

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func row(n int64, text string) Row {
	return Row{Row: n, Record: int32(n), Identity: Identity{byte(n), byte(n >> 8)}, Text: text, Raw: text + " raw", Tokens: 3}
}

func TestARowIsStoredOnce(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path)
	b, err := s.Batch(ctx, "round 0", "d")
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{row(0, "a"), row(1, "b"), {Row: 2, Reason: "empty", Identity: Identity{9}, Payload: []byte{1, 2}}}
	if n, err := s.Put(ctx, b, want); err != nil || n != 3 {
		t.Fatalf("Put = %d, %v", n, err)
	}
	if n, err := s.Put(ctx, b, []Row{row(1, "other"), row(3, "c")}); err != nil || n != 1 {
		t.Fatalf("second Put = %d, %v: want 1 new row", n, err)
	}
	_ = s.Close()

	s = open(t, path)
	again, err := s.Batch(ctx, "round 0", "d")
	if err != nil || again != b {
		t.Fatalf("Batch = %d, %v; want %d", again, err, b)
	}
	var got []Row
	if err := s.Rows(ctx, b, func(r Row) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(append(want, row(3, "c")), got); d != "" {
		t.Error(d)
	}
	found, ok, err := s.Find(ctx, want[1].Identity)
	if err != nil || !ok || found.Text != "b" {
		t.Errorf("Find = %+v, %v, %v", found, ok, err)
	}
	if _, ok, err := s.Find(ctx, Identity{77}); ok || err != nil {
		t.Errorf("Find of an unknown identity: %v, %v", ok, err)
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "x.db"))
	b, err := s.Batch(ctx, "n", "d1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Batch(ctx, "n", "d2"); err == nil {
		t.Error("a batch was opened with another digest")
	}
	for _, r := range []Row{{Row: 1}, {Row: 1, Text: "x", Reason: "y"}} {
		if _, err := s.Put(ctx, b, []Row{row(0, "a"), r}); err == nil {
			t.Errorf("row %+v was accepted", r)
		}
	}
	have, err := s.Have(ctx, b)
	if err != nil || len(have) != 0 {
		t.Errorf("a refused Put left rows: %v, %v", have, err)
	}
}

// A writer killed at random moments leaves whole transactions only, and what it had acknowledged is there.
func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		write(path)
		return
	}
	const per = 7
	path := filepath.Join(t.TempDir(), "x.db")
	acked := path + ".acked"
	for kill := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriterLosesNothingAcknowledged$")
		cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(60+37*kill)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ack := 0
		if b, err := os.ReadFile(acked); err == nil {
			ack, _ = strconv.Atoi(string(b))
		}
		s := open(t, path)
		b, err := s.Batch(context.Background(), "w", "d")
		if err != nil {
			t.Fatal(err)
		}
		have, err := s.Have(context.Background(), b)
		if err != nil {
			t.Fatal(err)
		}
		if len(have) < ack*per || len(have)%per != 0 {
			t.Fatalf("kill %d: %d rows, %d transactions of %d acknowledged", kill, len(have), ack, per)
		}
		_ = s.Close()
	}
	if b, err := os.ReadFile(acked); err != nil || string(b) == "0" {
		t.Fatal("no writer got as far as one transaction: the test proved nothing")
	}
}

func write(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		return
	}
	b, err := s.Batch(ctx, "w", "d")
	if err != nil {
		return
	}
	have, err := s.Have(ctx, b)
	if err != nil {
		return
	}
	for n := len(have) / 7; ; n++ {
		var rows []Row
		for i := range 7 {
			rows = append(rows, row(int64(n*7+i), "t"))
		}
		if _, err := s.Put(ctx, b, rows); err != nil {
			return
		}
		tmp := path + ".tmp"
		_ = os.WriteFile(tmp, []byte(strconv.Itoa(n+1)), 0o644)
		_ = os.Rename(tmp, path+".acked")
	}
}
