package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := Write(path, 0o644, func(w io.Writer) error { _, _ = w.Write([]byte("half")); return boom })
	if !errors.Is(err, boom) {
		t.Fatalf("err = %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("content %q, want old", b)
	}
	onlyEntry(t, filepath.Dir(path), "f")
}

func TestReplaceDirIsWholeOrAbsent(t *testing.T) {
	final := filepath.Join(t.TempDir(), "parent", "v1")
	boom := errors.New("boom")
	err := ReplaceDir(final, func(dir string) error {
		_ = os.WriteFile(filepath.Join(dir, "a"), nil, 0o644)
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("err = %v", err)
	}
	if _, err := os.Stat(final); !os.IsNotExist(err) {
		t.Fatal("a failed fill left the folder")
	}
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644) }
	if err := ReplaceDir(final, fill); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceDir(final, fill); err == nil {
		t.Fatal("an existing version was overwritten")
	}
	onlyEntry(t, filepath.Dir(final), "v1")
}

func onlyEntry(t *testing.T, dir, name string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 1 || es[0].Name() != name {
		t.Errorf("folder holds %v (%v), want only %s", es, err, name)
	}
}
