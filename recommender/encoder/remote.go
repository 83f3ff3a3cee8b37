package encoder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
)

// Source makes vectors elsewhere: an embeddings endpoint. It returns one finite vector per text, all of one length, and does its own retries.
type Source interface {
	Embed(ctx context.Context, model string, texts []string) ([][]float32, error)
}

// RemoteSettings name an endpoint's model and say how it is asked.
type RemoteSettings struct {
	Endpoint string // address, a part of the cache's key
	Model    string
	Batch    int // texts of a request
	Parallel int // requests at a time
}

// Remote encodes texts through a Source. It may be used by several goroutines; they take turns.
type Remote struct {
	RemoteSettings
	source Source
	dim    int
	digest string
	known  shelf
}

// canary is the text by which another model under the same name is found out.
const canary = "The user watched this movie because the user loves comedy and the comedy is widely praised."

// sameModel is the cosine above which two vectors of the canary are one model's: replicas and batches round differently, models differ wholly.
const sameModel = .999

// OpenRemote asks for the vector of one text, which tells their length, and opens the cache. Vectors that the cache holds must be of the model that
// answers now.
func OpenRemote(ctx context.Context, src Source, s RemoteSettings, cacheDir string) (*Remote, error) {
	const op = "encoder: endpoint"
	if s.Batch < 1 || s.Parallel < 1 {
		return nil, fault.Newf(fault.Fatal, op, "%d texts a request and %d requests at a time", s.Batch, s.Parallel)
	}
	now, err := embedUnit(ctx, src, s.Model, []string{canary})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "recpie remote encoder 1\n%s\n%s\n%d", s.Endpoint, s.Model, len(now[0])))
	r := &Remote{RemoteSettings: s, source: src, dim: len(now[0]), digest: hex.EncodeToString(sum[:])}
	if cacheDir == "" {
		return r, nil
	}
	if r.known.cache, err = openCache(cacheDir, r.digest, r.dim); err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	k := key(sha256.Sum256([]byte(canary)))
	before, err := r.known.get(k)
	switch {
	case err != nil:
	case before == nil:
		err = r.known.put([]key{k}, now)
	case !(dot(before, now[0]) > sameModel):
		err = fault.WithHint(fault.Newf(fault.Fatal, op, "%s answers as %q, but with other vectors than before", s.Endpoint, s.Model),
			"another model is served under the name: give it another, or remove "+r.known.cache.file.Name()+" and train anew")
	}
	if err != nil {
		_ = r.known.close()
		return nil, err
	}
	return r, nil
}

// Dim returns the length of the vectors.
func (r *Remote) Dim() int { return r.dim }

// Digest names endpoint, model and dimension.
func (r *Remote) Digest() string { return r.digest }

// Close closes the cache.
func (r *Remote) Close() error {
	r.known.mu.Lock()
	defer r.known.mu.Unlock()
	return r.known.close()
}

// Embed returns the vector of each text, scaled to length 1. What the cache does not have is asked for in batches; each batch that was answered
// is in the cache, also after an error.
func (r *Remote) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return r.known.embed(ctx, texts, func(ctx context.Context, texts []missing, keep keeper) error {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(r.Parallel)
		for from := 0; from < len(texts) && gctx.Err() == nil; from += r.Batch {
			batch := texts[from:min(from+r.Batch, len(texts))]
			g.Go(func() error {
				keys, plain := make([]key, len(batch)), make([]string, len(batch))
				for i, t := range batch {
					keys[i], plain[i] = t.key, t.text
				}
				vectors, err := embedUnit(gctx, r.source, r.Model, plain)
				if err != nil {
					return err
				}
				if len(vectors[0]) != r.dim {
					return fault.Newf(fault.Endpoint, "encoder: endpoint", "vectors of %d numbers where there were %d before", len(vectors[0]), r.dim)
				}
				return keep(keys, vectors)
			})
		}
		return g.Wait()
	})
}

// embedUnit asks for vectors and scales them to length 1.
func embedUnit(ctx context.Context, src Source, model string, texts []string) ([][]float32, error) {
	vectors, err := src.Embed(ctx, model, texts)
	if err != nil {
		return nil, err
	}
	if len(vectors) != len(texts) {
		return nil, fault.Newf(fault.Endpoint, "encoder: endpoint", "%d vectors for %d texts", len(vectors), len(texts))
	}
	for i, v := range vectors {
		length := math.Sqrt(dot(v, v))
		if !(length > 0) || math.IsInf(length, 0) || len(v) != len(vectors[0]) {
			return nil, fault.Newf(fault.Endpoint, "encoder: endpoint", "vector %d has %d numbers and length %v", i, len(v), length)
		}
		for j := range v {
			v[j] = float32(float64(v[j]) / length)
		}
	}
	return vectors, nil
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
