package encoder

import (
	"crypto/sha256"
	"os"
	"slices"
	"strings"
	"testing"
)

var testDigest = strings.Repeat("ab", 32)

func testKey(s string) key { return sha256.Sum256([]byte(s)) }

func mustOpen(t *testing.T, dir string) *cache {
	t.Helper()
	c, err := openCache(dir, testDigest, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.file.Close() })
	return c
}

func fill(t *testing.T, c *cache) {
	t.Helper()
	for k, s := range []string{"a", "b", "c"} {
		if err := c.put([]key{testKey(s)}, [][]float32{{float32(k), 1, -2.5}}); err != nil {
			t.Fatal(err)
		}
	}
}

// Cut anywhere, the file still serves the whole records before the cut, and takes new ones.
func TestTornEndIsRecovered(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	fill(t, c)
	path, size := c.file.Name(), c.end
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := int64(0); cut < size; cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustOpen(t, dir)
		if want := max(cut-headerSize, 0) / c.recordSize(); int64(len(c.where)) != want {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(c.where), want)
		}
		if err := c.put([]key{testKey("new")}, [][]float32{{7, 8, 9}}); err != nil {
			t.Fatal(err)
		}
		if v, err := mustOpen(t, dir).get(testKey("new")); err != nil || !slices.Equal(v, []float32{7, 8, 9}) {
			t.Fatalf("cut at %d: %v, %v", cut, v, err)
		}
	}
}

func TestDamageIsNotServed(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	fill(t, c)
	at := c.where[testKey("b")] + sha256.Size + 1
	if _, err := c.file.WriteAt([]byte{0x55}, at); err != nil {
		t.Fatal(err)
	}
	if v, err := c.get(testKey("b")); v != nil || err != nil {
		t.Errorf("a damaged record was served: %v, %v", v, err)
	}
	if c := mustOpen(t, dir); len(c.where) != 1 { // what follows the damage is encoded again
		t.Errorf("%d records of a damaged file", len(c.where))
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	if _, err := openCache(dir, testDigest, 4); err == nil {
		t.Error("another dimension opened")
	}
	if err := os.WriteFile(c.file.Name(), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openCache(dir, testDigest, 3); err == nil {
		t.Error("a foreign file opened")
	}
}

// FuzzCache opens any bytes as a cache: it must neither crash nor serve a record with a wrong checksum.
func FuzzCache(f *testing.F) {
	dir := f.TempDir()
	c, err := openCache(dir, testDigest, 3)
	if err != nil {
		f.Fatal(err)
	}
	if err := c.put([]key{testKey("a")}, [][]float32{{1, 2, 3}}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(c.file.Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte("recpie"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(c.file.Name(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := openCache(dir, testDigest, 3)
		if err != nil {
			return
		}
		defer o.file.Close()
		if v, err := o.get(testKey("a")); err != nil || (v != nil && len(v) != 3) {
			t.Fatal(v, err)
		}
		if err := o.put([]key{testKey("b")}, [][]float32{{4, 5, 6}}); err != nil {
			t.Fatal(err)
		}
	})
}
