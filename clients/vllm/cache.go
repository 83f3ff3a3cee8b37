package vllm

import (
	"crypto/sha256"
	"slices"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"recpie/internal/fault"
)

// cache remembers answers to deterministic requests. Its key is the digest of route and request body, which holds the model or adapter
// name, every parameter and the content with its soft prompts. It is emptied whenever an adapter is loaded or unloaded; an answer that
// was under way at that moment is not stored. A nil cache stores nothing.
type cache struct {
	lru *lru.Cache[[32]byte, *Result]
	gen atomic.Int64
}

func newCache(size int) (*cache, error) {
	l, err := lru.New[[32]byte, *Result](size)
	if err != nil {
		return nil, fault.New(fault.Fatal, "vllm: cache", err)
	}
	return &cache{lru: l}, nil
}

func keyOf(path string, body []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(path))
	h.Write([]byte{0})
	h.Write(body)
	return [32]byte(h.Sum(nil))
}

func (c *cache) get(key [32]byte) *Result {
	r, ok := c.lru.Get(key)
	if !ok {
		return nil
	}
	hit := shallow(r)
	hit.Cached = true
	return hit
}

func (c *cache) epoch() int64 { return c.gen.Load() }

func (c *cache) put(key [32]byte, r *Result, epoch int64) {
	if c.gen.Load() == epoch {
		c.lru.Add(key, shallow(r))
	}
}

// shallow copies what a caller may be tempted to change; the slices of numbers stay shared.
func shallow(r *Result) *Result {
	c := *r
	c.Choices = slices.Clone(r.Choices)
	return &c
}

func (c *cache) purge() {
	if c != nil {
		c.gen.Add(1)
		c.lru.Purge()
	}
}
