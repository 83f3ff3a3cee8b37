package importer

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/fault"
	"recpie/internal/progress"
)

// watched notes which reports of files belong to the items.
type watched struct {
	formats.Source
	itemFiles int
}

func (w *watched) Items(ctx context.Context, yield func([]dataset.Item) error) error {
	err := w.Source.Items(ctx, yield)
	w.itemFiles = len(w.Files())
	return err
}

// regularFiles lists the files named and those of the folders named.
func regularFiles(paths []string) (files []string, err error) {
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, fault.New(fault.Fatal, "import", err)
		}
	}
	return files, nil
}

// stamp is what changes when a file does.
type stamp struct{ size, modified int64 }

func stamps(files []string) (all []stamp, size int64, err error) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, 0, fault.New(fault.Fatal, "import", err)
		}
		if !info.Mode().IsRegular() {
			return nil, 0, fault.Newf(fault.Fatal, "import", "%s is not a regular file", f)
		}
		all = append(all, stamp{info.Size(), info.ModTime().UnixNano()})
		size += info.Size()
	}
	return all, size, nil
}

// advance turns the bytes read of each file into steps of a task.
func advance(task *progress.Task) func(file string, done, size int64) {
	var mu sync.Mutex
	seen := make(map[string]int64)
	return func(file string, done, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		if n := done - seen[file]; n > 0 {
			seen[file] = done
			task.Add(n)
		}
	}
}

// hold locks a folder that is being filled until the function that it returns is called.
func hold(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fault.New(fault.Fatal, "import", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Fatal, "import", err)
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes what imports into out left that were killed while they wrote: folders of the temporary name that nobody holds.
func sweep(out string) error {
	dir, prefix := filepath.Dir(out), "."+filepath.Base(out)+"."
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.New(fault.Fatal, "import", err)
	}
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), prefix)
		if !ours || !e.IsDir() || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		release, err := hold(path)
		if err != nil {
			continue // at work
		}
		err = os.RemoveAll(path)
		release()
		if err != nil {
			return fault.New(fault.Fatal, "import", err)
		}
	}
	return nil
}
