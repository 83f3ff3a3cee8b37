package trainertest

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// without takes losses away from a server: they reach it under a name that it does not know, and it refuses that in its own way.
func without(losses ...string) func(http.RoundTripper) http.RoundTripper {
	return func(to http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != tinker.PathForwardBackward {
				return to.RoundTrip(r)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			var req pb.ForwardBackwardRequest
			if err := proto.Unmarshal(body, &req); err != nil {
				return nil, err
			}
			if slices.Contains(losses, req.LossFn) {
				req.LossFn = "no_such_loss"
				if body, err = proto.Marshal(&req); err != nil {
					return nil, err
				}
			}
			out := r.Clone(r.Context())
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			return to.RoundTrip(out)
		})
	}
}

// cutter loses the first answer of each of the paths once it is armed: the server has then carried the request out.
type cutter struct {
	paths []string

	mu   sync.Mutex
	left []string // paths whose next answer is lost
	lost int
}

func (c *cutter) arm(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on {
		c.left = slices.Clone(c.paths)
	}
}

func (c *cutter) cuts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func (c *cutter) wrap(to http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := to.RoundTrip(r)
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.left, r.URL.Path)
		if err != nil || i < 0 {
			return resp, err
		}
		c.left = slices.Delete(c.left, i, i+1)
		c.lost++
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	})
}
