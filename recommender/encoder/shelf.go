package encoder

import (
	"context"
	"crypto/sha256"
	"sync"

	"recpie/internal/fault"
)

// shelf keeps the vectors of texts: those of the cache, if there is one, and for the length of a call those just made.
type shelf struct {
	mu    sync.Mutex
	cache *cache // nil without a cache folder
}

// missing is a text whose vector is to be made.
type missing struct {
	key  key
	text string
}

// keeper takes vectors that were made. It may be called by several goroutines.
type keeper func(keys []key, vectors [][]float32) error

// embed returns the vector of each text; encode makes those that are not there, each distinct text once, and hands them to keep as they come.
func (s *shelf) embed(ctx context.Context, texts []string, encode func(ctx context.Context, texts []missing, keep keeper) error) ([][]float32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, known := make([]key, len(texts)), make(map[key][]float32)
	var absent []missing
	for i, text := range texts {
		k := key(sha256.Sum256([]byte(text)))
		keys[i] = k
		if _, seen := known[k]; seen {
			continue
		}
		v, err := s.get(k)
		if err != nil {
			return nil, err
		}
		if known[k] = v; v == nil {
			absent = append(absent, missing{k, text})
		}
	}
	var mu sync.Mutex // known, and the cache
	err := encode(ctx, absent, func(keys []key, vectors [][]float32) error {
		mu.Lock()
		defer mu.Unlock()
		for i, k := range keys {
			known[k] = vectors[i]
		}
		return s.put(keys, vectors)
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(texts))
	for i, k := range keys {
		out[i] = known[k]
	}
	return out, nil
}

func (s *shelf) get(k key) ([]float32, error) {
	if s.cache == nil {
		return nil, nil
	}
	v, err := s.cache.get(k)
	return v, fault.New(fault.Fatal, "encoder: cache", err)
}

func (s *shelf) put(keys []key, vectors [][]float32) error {
	if s.cache == nil {
		return nil
	}
	return fault.New(fault.Fatal, "encoder: cache", s.cache.put(keys, vectors))
}

func (s *shelf) close() error {
	if s.cache == nil {
		return nil
	}
	return s.cache.close()
}
