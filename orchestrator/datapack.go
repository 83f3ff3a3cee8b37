package orchestrator

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// maxPacked bounds an unpacked data folder, in bytes.
const maxPacked = 64 << 30

// PackData writes the files of a data folder as a tar archive whose bytes depend on names and contents alone, so that the archive's
// digest names the data. Sub-folders are left out: no reader looks into them.
func PackData(dir string, w io.Writer) error {
	const op = "pack data"
	entries, err := os.ReadDir(dir) // by name
	if err != nil {
		return fault.New(fault.Fatal, op, err)
	}
	t := tar.NewWriter(w)
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // links are followed
		if err != nil {
			return fault.New(fault.Fatal, op, err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if err := packFile(t, filepath.Join(dir, e.Name()), e.Name(), info.Size()); err != nil {
			return fault.New(fault.Fatal, op, err)
		}
	}
	return fault.New(fault.Fatal, op, t.Close())
}

func packFile(t *tar.Writer, path, name string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// UnpackData makes the folder dir of an archive of PackData; dir is whole or absent. Names that leave the folder are refused.
func UnpackData(r io.Reader, dir string) error {
	const op = "unpack data"
	return durable.ReplaceDir(dir, func(tmp string) error {
		root, err := os.OpenRoot(tmp)
		if err != nil {
			return fault.New(fault.Fatal, op, err)
		}
		defer root.Close()
		left := int64(maxPacked)
		for t := tar.NewReader(r); ; {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fault.New(fault.Fatal, op, err)
			}
			if h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name) || !fs.ValidPath(h.Name) || h.Size > left {
				return fault.Newf(fault.Fatal, op, "the archive holds %q of %d bytes, which is no file of a data folder", h.Name, h.Size)
			}
			left -= h.Size
			f, err := root.Create(h.Name)
			if err != nil {
				return fault.New(fault.Fatal, op, err)
			}
			_, err = io.Copy(f, t)
			if err = errors.Join(err, f.Close()); err != nil {
				return fault.New(fault.Fatal, op, err)
			}
		}
	})
}
