package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync"
)

// Words repeat, so their ids are kept: bounded to shards × perShard words of at most maxWord bytes, some 10 MB. A full shard is
// emptied, which costs less than tracking use and loses nothing but time.
const (
	cacheShards = 32
	perShard    = 2048
	maxWord     = 64
)

type wordCache struct {
	seed   maphash.Seed
	shards [cacheShards]struct {
		sync.RWMutex
		ids map[string][]int32
	}
}

func newWordCache() *wordCache { return &wordCache{seed: maphash.MakeSeed()} }

// get appends the ids of word to out, asking compute for a word that is not kept.
func (c *wordCache) get(word string, out []int32, compute func(string, []int32) []int32) []int32 {
	if len(word) > maxWord {
		return compute(word, out)
	}
	sh := &c.shards[maphash.String(c.seed, word)%cacheShards]
	sh.RLock()
	ids, ok := sh.ids[word]
	sh.RUnlock()
	if ok {
		return append(out, ids...)
	}
	from := len(out)
	out = compute(word, out)
	sh.Lock()
	if sh.ids == nil || len(sh.ids) >= perShard {
		sh.ids = make(map[string][]int32, perShard)
	}
	// Clones: a key that shared the caller's text would keep all of it alive.
	sh.ids[strings.Clone(word)] = append([]int32(nil), out[from:]...)
	sh.Unlock()
	return out
}
