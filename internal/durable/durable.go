// Package durable writes files that are whole or absent: what a reader finds under the final name was synced to disk before the
// name appeared. The steps are: temporary file in the same folder, write, fsync, rename, fsync of the folder.
package durable

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WriteFile replaces path by data. After it returns nil the bytes survive a crash of the process and of the machine.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return Write(path, perm, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// Write replaces path by what fill writes. When fill fails, or the process dies, path is as it was before.
func Write(path string, perm os.FileMode, fill func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("durable: sync %s: %w", path, err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("durable: close %s: %w", path, err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return SyncDir(dir)
}

// ReplaceDir makes the folder final appear whole: fill gets a temporary sibling to write into, whose files and folder are synced
// before the rename. A final that already exists is an error: versions are never overwritten.
func ReplaceDir(final string, fill func(dir string) error) (err error) {
	parent := filepath.Dir(final)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	if _, err := os.Lstat(final); err == nil {
		return fmt.Errorf("durable: %s exists already", final)
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(final)+".*")
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(tmp)
		}
	}()
	if err = os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	if err = fill(tmp); err != nil {
		return err
	}
	if err = syncTree(tmp); err != nil {
		return err
	}
	if err = os.Rename(tmp, final); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return SyncDir(parent)
}

// SyncDir flushes a folder's entries, which makes a rename inside it permanent.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("durable: sync folder %s: %w", dir, err)
	}
	return nil
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("durable: %w", err)
		}
		return SyncDir(path) // fsync takes files and folders alike
	})
}
