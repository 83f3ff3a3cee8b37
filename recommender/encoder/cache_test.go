package encoder

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var testDigest = strings.Repeat("ab", 32)

func testKey(s string) key { return sha256.Sum256([]byte(s)) }

func mustOpen(t testing.TB, dir string) *cache {
	t.Helper()
	c, err := openCache(dir, testDigest, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	return c
}

func fill(t testing.TB, c *cache) {
	t.Helper()
	for k, s := range []string{"a", "b", "c"} {
		if err := c.put([]key{testKey(s)}, [][]float32{{float32(k), 1, -2.5}}); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGet(t testing.TB, c *cache, s string) []float32 {
	t.Helper()
	v, err := c.get(testKey(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Cut anywhere, with its index or without, the file still serves the whole records before the cut, and takes new ones.
func TestTornEndIsRecovered(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	fill(t, c)
	path, size := c.file.Name(), c.index.indexed()
	whole, err := os.ReadFile(path)
	if err != nil || int64(len(whole)) != size {
		t.Fatal(len(whole), size, err)
	}
	for cut := int64(0); cut < size; cut++ {
		for _, indexed := range []bool{true, false} {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.Base(path))
			if indexed { // the index tells of all three
				fill(t, mustOpen(t, dir))
				if err := os.Truncate(path, cut); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			c := mustOpen(t, dir)
			left := max(cut-headerSize, 0) / c.recordSize()
			if int64(c.index.entries()) != left {
				t.Fatalf("cut at %d: %d records, want %d", cut, c.index.entries(), left)
			}
			for k, s := range []string{"a", "b", "c"} {
				if v := mustGet(t, c, s); (v != nil) != (int64(k) < left) || v != nil && !slices.Equal(v, []float32{float32(k), 1, -2.5}) {
					t.Fatalf("cut at %d: %s is %v", cut, s, v)
				}
			}
			if err := c.put([]key{testKey("new")}, [][]float32{{7, 8, 9}}); err != nil {
				t.Fatal(err)
			}
			if v := mustGet(t, mustOpen(t, dir), "new"); !slices.Equal(v, []float32{7, 8, 9}) {
				t.Fatalf("cut at %d: %v", cut, v)
			}
		}
	}
}

// A damaged record is not served and is written anew; those around it are kept.
func TestDamageIsNotServed(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		dir := t.TempDir()
		c := mustOpen(t, dir)
		fill(t, c)
		at := headerSize + c.recordSize() + sha256.Size + 1
		if _, err := c.file.WriteAt([]byte{0x55}, at); err != nil {
			t.Fatal(err)
		}
		if v := mustGet(t, c, "b"); v != nil {
			t.Errorf("a damaged record was served: %v", v)
		}
		if !indexed {
			if err := os.Remove(c.index.path); err != nil {
				t.Fatal(err)
			}
		}
		c = mustOpen(t, dir)
		if a, b, last := mustGet(t, c, "a"), mustGet(t, c, "b"), mustGet(t, c, "c"); a == nil || b != nil || last == nil {
			t.Errorf("%v, %v, %v", a, b, last)
		}
		if err := c.put([]key{testKey("b")}, [][]float32{{5, 5, 5}}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*cache{c, mustOpen(t, dir)} {
			if v := mustGet(t, c, "b"); !slices.Equal(v, []float32{5, 5, 5}) {
				t.Errorf("%v", v)
			}
		}
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

// A cache behaves like a map, for several who hold it open and open it again at any time, with an index that starts full.
func TestCacheIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "recpie-vectors-*")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var open [2]*cache
		for i := range open {
			if open[i], err = openCache(dir, testDigest, 3); err != nil {
				t.Fatal(err)
			}
		}
		defer func() {
			for _, c := range open {
				_ = c.close()
			}
		}()
		want := map[int][]float32{}
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			who := rapid.IntRange(0, 1).Draw(t, "who")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if err := open[who].close(); err != nil {
					t.Fatal(err)
				}
				if open[who], err = openCache(dir, testDigest, 3); err != nil {
					t.Fatal(err)
				}
			case 1, 2:
				var keys []key
				var vecs [][]float32
				from, n := rapid.IntRange(0, 9000).Draw(t, "from"), rapid.IntRange(1, 3000).Draw(t, "n")
				for i := from; i < from+n; i++ {
					v := []float32{float32(i), float32(step), 1}
					keys, vecs = append(keys, testKey(fmt.Sprint(i))), append(vecs, v)
					if want[i] == nil { // the first that was written stays
						want[i] = v
					}
				}
				if err := open[who].put(keys, vecs); err != nil {
					t.Fatal(err)
				}
				for i := from; i < from+n; i++ {
					if v, err := open[who].get(testKey(fmt.Sprint(i))); err != nil || !slices.Equal(v, want[i]) {
						t.Fatalf("%d is %v, want %v; %v", i, v, want[i], err)
					}
				}
			case 3: // what the other has written may not be seen yet, but never wrong
				i := rapid.IntRange(0, 12000).Draw(t, "i")
				if v, err := open[who].get(testKey(fmt.Sprint(i))); err != nil || v != nil && !slices.Equal(v, want[i]) {
					t.Fatalf("%d is %v, want %v; %v", i, v, want[i], err)
				}
			}
		}
		c, err := openCache(dir, testDigest, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		for i := range 12000 {
			if v, err := c.get(testKey(fmt.Sprint(i))); err != nil || !slices.Equal(v, want[i]) {
				t.Fatalf("%d is %v, want %v; %v", i, v, want[i], err)
			}
		}
		if info, err := c.file.Stat(); err != nil || info.Size() != headerSize+int64(len(want))*c.recordSize() {
			t.Fatalf("a file of %d bytes for %d vectors, %v", info.Size(), len(want), err)
		}
	})
}

// A cache that is held open takes heap for what is asked of it, not for what it has.
func TestCacheTakesNoHeap(t *testing.T) {
	const n, batch = 200_000, 20_000
	dir := t.TempDir()
	c := mustOpen(t, dir)
	for from := 0; from < n; from += batch {
		var keys []key
		var vecs [][]float32
		for i := from; i < from+batch; i++ {
			keys, vecs = append(keys, testKey(fmt.Sprint(i))), append(vecs, []float32{float32(i), 0, 0})
		}
		if err := c.put(keys, vecs); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, rebuilt := range []bool{false, true} {
		if rebuilt {
			if err := os.Remove(c.index.path); err != nil {
				t.Fatal(err)
			}
		}
		before := heap()
		o := mustOpen(t, dir)
		for i := range n {
			if v := mustGet(t, o, fmt.Sprint(i)); len(v) != 3 || v[0] != float32(i) {
				t.Fatalf("%d is %v", i, v)
			}
		}
		if grown := int64(heap()) - int64(before); grown > n/4 { // a byte per four vectors; a map of offsets takes forty for one
			t.Errorf("%d bytes of heap for %d vectors, index rebuilt: %v", grown, n, rebuilt)
		}
		if o.index.entries() != n {
			t.Errorf("%d entries", o.index.entries())
		}
	}
}

// A file that someone else cuts while it is mapped is an error, not the end of the process.
func TestCutWhileMapped(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	var keys []key
	var vecs [][]float32
	for i := range 2000 {
		keys, vecs = append(keys, testKey(fmt.Sprint(i))), append(vecs, []float32{1, 2, 3})
	}
	if err := c.put(keys, vecs); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(c.file.Name(), headerSize); err != nil {
		t.Fatal(err)
	}
	if v, err := c.get(keys[1999]); err == nil || v != nil {
		t.Errorf("%v, %v", v, err)
	}
	if err := c.put(keys[:1], vecs[:1]); err != nil { // the next who writes finds out
		t.Fatal(err)
	}
	if v := mustGet(t, c, "0"); !slices.Equal(v, []float32{1, 2, 3}) {
		t.Errorf("%v", v)
	}
}

// writerVariable makes the test binary write vectors into the folder that it names.
const writerVariable = "RECPIE_TEST_WRITER"

const (
	writes    = 6    // batches
	perWrite  = 2000 // vectors of one: the index grows on the way
	writerDim = 3
)

func writerKey(b, i int) key { return testKey(fmt.Sprint(b, " ", i)) }

// write puts all batches into a cache and returns an exit code.
func write(dir string) int {
	c, err := openCache(dir, testDigest, writerDim)
	for b := 0; b < writes && err == nil; b++ {
		keys, vecs := make([]key, perWrite), make([][]float32, perWrite)
		for i := range keys {
			keys[i], vecs[i] = writerKey(b, i), []float32{float32(b), float32(i), 1}
		}
		if err = c.put(keys, vecs); err == nil {
			fmt.Println(b)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// Killed at any place, the cache has every batch that was acknowledged, nothing wrong, and is completed by the same work.
func TestKilledWriter(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(dir, failpoint string) (acknowledged int, killed bool) {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), writerVariable+"="+dir, "RECPIE_FAILPOINT="+failpoint)
		out, err := cmd.Output()
		code := cmd.ProcessState.ExitCode()
		if code > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Count(string(out), "\n"), code == -1
	}
	for _, f := range []string{"vectors-before-write:1", "vectors-before-write:4", "vectors-written:1", "vectors-written:3", "vectors-indexed:1", "vectors-indexed:3071", "vectors-indexed:3073", "vectors-indexed:9000"} {
		t.Run(f, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			done, killed := run(dir, f)
			if !killed {
				t.Fatal("was not killed")
			}
			c := mustOpen(t, dir)
			for b := range writes {
				for i := range perWrite {
					v, err := c.get(writerKey(b, i))
					if err != nil || v == nil && b < done || v != nil && !slices.Equal(v, []float32{float32(b), float32(i), 1}) {
						t.Fatalf("batch %d of %d acknowledged, vector %d: %v, %v", b, done, i, v, err)
					}
				}
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			if done, killed := run(dir, ""); killed || done != writes {
				t.Fatalf("%d batches the second time", done)
			}
			c = mustOpen(t, dir)
			if info, err := c.file.Stat(); err != nil || info.Size() != headerSize+writes*perWrite*c.recordSize() {
				t.Errorf("a file of %d bytes, %v", info.Size(), err)
			}
			for b := range writes {
				if v := mustGet(t, c, fmt.Sprint(b, " ", perWrite-1)); v == nil {
					t.Errorf("batch %d is not there", b)
				}
			}
		})
	}
}

// FuzzCache opens any bytes as a cache with any bytes as its index: it must neither crash nor serve a record with a wrong checksum.
func FuzzCache(f *testing.F) {
	dir := f.TempDir()
	c := mustOpen(f, dir)
	if err := c.put([]key{testKey("a"), testKey("c")}, [][]float32{{1, 2, 3}, {3, 2, 1}}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(c.file.Name())
	if err != nil {
		f.Fatal(err)
	}
	index, err := os.ReadFile(c.index.path)
	if err != nil {
		f.Fatal(err)
	}
	const few = headerSize + 4*slotSize
	f.Add(whole, index)
	f.Add(whole[:len(whole)-1], index[:few])
	f.Add(whole, index[:few])
	f.Add(whole, []byte{})
	f.Add([]byte("recpie"), []byte("recpie index"))
	f.Add([]byte{}, []byte{})
	device, inode, err := identity(c.file)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data, index []byte) {
		if err := os.WriteFile(c.file.Name(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		index = slices.Clone(index)
		if len(index) >= headerSize && device != 0 && string(index[:8]) == indexMagic[:8] { // past the identity of the file

			for i, w := range []uint64{device, inode} {
				for b := range 8 {
					index[atDevice+8*i+b] = byte(w >> (8 * b))
				}
			}
		}
		if err := os.WriteFile(c.index.path, index, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := openCache(dir, testDigest, 3)
		if err != nil {
			return
		}
		defer o.close()
		for _, s := range []string{"a", "b", "c"} {
			v, err := o.get(testKey(s))
			if err != nil || v != nil && len(v) != 3 {
				t.Fatal(v, err)
			}
		}
		if err := o.put([]key{testKey("b")}, [][]float32{{4, 5, 6}}); err != nil {
			t.Fatal(err)
		}
		if v, err := o.get(testKey("b")); err != nil || v == nil {
			t.Fatal(v, err)
		}
	})
}
