package realdata

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPathsAreFoundOrSkipped(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"set", "ml-100k", "minilm"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("RECPIE_DATA", dir)
	t.Setenv("RECPIE_CACHE", dir)
	for want, got := range map[string]string{"set": Path(t, "set"), "ml-100k": Path(t, "ml-100k"), "minilm": Cached(t, "minilm")} {
		if got != filepath.Join(dir, want) {
			t.Errorf("%s lies in %s", want, got)
		}
	}
	skipped := false
	t.Run("absent", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Path(t, "nowhere")
	})
	if !skipped {
		t.Error("an absent set did not skip the test")
	}
	if root := moduleRoot(t); !strings.HasPrefix(must(t, os.Getwd), filepath.Join(root, "internal")) {
		t.Errorf("root %s", root)
	}
}

func must(t *testing.T, f func() (string, error)) string {
	t.Helper()
	s, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
