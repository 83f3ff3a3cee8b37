package adapters

import (
	"io"
	"os"
	"path/filepath"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// OpenVersion opens the version in a folder of its name.
func OpenVersion(dir string) (*Version, error) {
	return (&Store{filepath.Dir(dir)}).Open(filepath.Base(dir))
}

// Import brings a version of another store into this one, whole or not at all, and verifies it. One that is there is verified alone.
func (s *Store) Import(v *Version) (*Version, error) {
	final := filepath.Join(s.dir, v.Name)
	if _, err := os.Lstat(final); err == nil {
		return s.Open(v.Name)
	}
	err := durable.ReplaceDir(final, func(dir string) error {
		for name := range v.Files {
			if err := copyFile(filepath.Join(v.Dir, name), filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return copyFile(filepath.Join(v.Dir, ManifestFile), filepath.Join(dir, ManifestFile))
	})
	if err != nil {
		if _, e := os.Lstat(final); e != nil { // another process may have been first
			return nil, fault.New(fault.Fatal, op, err)
		}
	}
	return s.Open(v.Name)
}

func copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return durable.Write(to, 0o644, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}
