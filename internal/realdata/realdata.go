// Package realdata finds, for tests, what is no part of the repository: the public data sets, and the models that set-up fetches.
package realdata

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns where a public data set lies, skipping the test when it is absent: ml-100k in the cache, the others below RECPIE_DATA or, without
// it, in shared/data beside the repository.
func Path(t testing.TB, name string) string {
	t.Helper()
	if name == "ml-100k" {
		return Cached(t, name)
	}
	dir := os.Getenv("RECPIE_DATA")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "..", "shared", "data")
	}
	return present(t, filepath.Join(dir, name), "name the folder of the public sets in RECPIE_DATA")
}

// Cached returns a file or folder of the cache that set-up fills, skipping the test when it is absent.
func Cached(t testing.TB, parts ...string) string {
	t.Helper()
	dir := os.Getenv("RECPIE_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Skip("no cache folder: ", err)
		}
		dir = filepath.Join(base, "recpie")
	}
	return present(t, filepath.Join(append([]string{dir}, parts...)...), "run 'make setup'")
}

func present(t testing.TB, path, remedy string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: %s", err, remedy)
	}
	return path
}

// moduleRoot finds the folder of go.mod, in or below which tests run.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
