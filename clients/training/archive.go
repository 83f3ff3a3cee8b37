package training

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"recpie/clients/transport"
	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// Limits on what Download writes.
const (
	maxArchiveFiles = 64
	maxArchiveBytes = 4 << 30
)

// Download fetches the archive of a saved checkpoint and unpacks it into the folder dir, which must not exist yet and appears whole or
// not at all. The archive is a tar, gzipped or not. Only regular files with plain relative names are accepted, in bounded number and
// size, and nothing can be written outside the folder. A redirect is followed once, on the same host.
func (s *Session) Download(ctx context.Context, checkpoint, dir string) error {
	const op = "training: download"
	p, err := tinker.ParsePath(checkpoint)
	if err != nil {
		return fault.New(fault.Item, op, err)
	}
	if _, err := os.Lstat(dir); err == nil {
		return fault.Newf(fault.Item, op, "%s exists already", dir)
	}
	addr := s.http.BaseURL() + tinker.PathTrainingRuns + "/" + url.PathEscape(p.Model) + "/checkpoints/" + p.CheckpointID() + "/archive"
	return s.http.Retry(ctx, op, func() error {
		body, err := s.open(ctx, op, addr, true)
		if err != nil {
			return err
		}
		defer body.Close()
		err = durable.ReplaceDir(dir, func(tmp string) error { return extract(body, tmp, maxArchiveFiles, maxArchiveBytes) })
		var bad *badArchive
		var disk *fs.PathError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &bad):
			return fault.New(fault.Endpoint, op, err)
		case errors.As(err, &disk), errors.Is(err, fs.ErrExist):
			return fault.New(fault.Fatal, op, err)
		}
		return s.http.Failed(ctx, op, err)
	})
}

// open returns the body of a 200, after one redirect at most.
func (s *Session) open(ctx context.Context, op, addr string, follow bool) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr, nil)
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, s.http.Failed(ctx, op, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusFound {
		to, err := resp.Location()
		if err != nil || !follow || to.Scheme != req.URL.Scheme || to.Host != req.URL.Host || to.User != nil {
			return nil, fault.Newf(fault.Endpoint, op, "a redirect that leaves the host, or a second one, is not followed")
		}
		return s.open(ctx, op, to.String(), false)
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err := classify(op, &transport.Reply{Status: resp.StatusCode, Header: resp.Header, Body: text}); err != nil {
		return nil, err
	}
	return nil, fault.Newf(fault.Endpoint, op, "HTTP %d", resp.StatusCode)
}

// badArchive is an archive that breaks a rule; trying again would not help.
type badArchive struct{ reason string }

func (e *badArchive) Error() string { return "archive: " + e.reason }

// extract unpacks a tar or tar.gz below dir.
func extract(r io.Reader, dir string, maxFiles int, maxBytes int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	br := bufio.NewReader(r)
	src := io.Reader(br)
	if magic, err := br.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		gz, err := gzip.NewReader(br)
		if err != nil {
			return &badArchive{err.Error()}
		}
		defer gz.Close()
		src = gz
	}
	tr := tar.NewReader(src)
	files, left := 0, maxBytes
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
			return &badArchive{err.Error()}
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir {
			// "/" is how Python's tarfile names a root folder that was added as ""
			if clean := path.Clean(name); name != "" && name != "/" && !fs.ValidPath(clean) {
				return &badArchive{fmt.Sprintf("folder name %.60q", h.Name)}
			}
			continue // made when a file needs it
		}
		if files++; h.Typeflag != tar.TypeReg || !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") || files > maxFiles {
			return &badArchive{fmt.Sprintf("entry %d, %.60q, is not an acceptable regular file", files, h.Name)}
		}
		if h.Size > left {
			return &badArchive{fmt.Sprintf("more than %d bytes", maxBytes)}
		}
		left -= h.Size
		if err := writeFile(root, name, tr); err != nil {
			return err
		}
	}
	if files == 0 {
		return &badArchive{"no files"}
	}
	return nil
}

// writeFile creates one new file below root; a name that occurs twice is an error.
func writeFile(root *os.Root, name string, r io.Reader) error {
	if folder := path.Dir(name); folder != "." {
		if err := root.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &badArchive{fmt.Sprintf("%.60q occurs twice", name)}
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
