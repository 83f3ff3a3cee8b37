package importer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// survivors says which of the spooled records are kept: those that are not dead and whose user and item are not gone.
type survivors struct {
	dead       bits // records that a later one of the same pair replaced
	userGone   []bool
	itemGone   []bool
	perUser    []int32
	perItem    []int32
	duplicates int64
	kept       int64
}

func (s *survivors) keeps(n int64, r *record) bool {
	return !s.userGone[r.user] && !s.itemGone[r.item] && !s.dead.has(n)
}

// thin finds repeated pairs, then takes the k-core and draws users.
func (c *collection) thin(ctx context.Context, dir string) (*survivors, error) {
	s := &survivors{userGone: make([]bool, c.users.len()), itemGone: make([]bool, c.items.len()), perUser: make([]int32, c.users.len()), perItem: make([]int32, c.items.len())}
	pairs, err := newSpool(dir, 1, bulkSize)
	if err != nil {
		return nil, err
	}
	defer pairs.close()
	if err := c.unique(ctx, s, pairs); err != nil {
		return nil, err
	}
	s.kept = c.n - s.duplicates
	before := s.kept
	if err := c.core(ctx, s, pairs); err != nil {
		return nil, err
	}
	if n := before - s.kept; n > 0 {
		c.filtered["k_core"] += n
	}
	return s, c.draw(s, pairs)
}

type key struct {
	user, item uint32
	time, n    int64
}

// unique marks all but the last record of every pair, and writes the pairs that are left.
func (c *collection) unique(ctx context.Context, s *survivors, pairs *spool) error {
	var keys []key
	var out [8]byte
	for part := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		keys = keys[:0]
		err := c.keys.each(part, func(chunk []byte) error {
			for k := chunk; len(k) > 0; k = k[keyBytes:] {
				keys = append(keys, key{binary.LittleEndian.Uint32(k), binary.LittleEndian.Uint32(k[4:]), int64(binary.LittleEndian.Uint64(k[8:])), int64(binary.LittleEndian.Uint64(k[16:]))})
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.SortFunc(keys, func(a, b key) int {
			return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.item, b.item), cmp.Compare(a.time, b.time), cmp.Compare(a.n, b.n))
		})
		for i, k := range keys {
			if i+1 < len(keys) && keys[i+1].user == k.user && keys[i+1].item == k.item {
				s.dead.set(k.n)
				s.duplicates++
				continue
			}
			binary.LittleEndian.PutUint32(out[:], k.user)
			binary.LittleEndian.PutUint32(out[4:], k.item)
			if err := pairs.add(0, out[:]); err != nil {
				return err
			}
		}
	}
	return pairs.done()
}

// each hands the pairs whose user and item are not gone to fn.
func (s *survivors) each(pairs *spool, fn func(user, item int32)) error {
	return pairs.each(0, func(chunk []byte) error {
		for p := chunk; len(p) > 0; p = p[8:] {
			if u, i := int32(binary.LittleEndian.Uint32(p)), int32(binary.LittleEndian.Uint32(p[4:])); !s.userGone[u] && !s.itemGone[i] {
				fn(u, i)
			}
		}
		return nil
	})
}

// count counts the records of users and items that are left.
func (s *survivors) count(pairs *spool) error {
	clear(s.perUser)
	clear(s.perItem)
	s.kept = 0
	return s.each(pairs, func(u, i int32) {
		s.perUser[u]++
		s.perItem[i]++
		s.kept++
	})
}

// core takes users and items with too few records away until none is left that has too few. The result, the k-core, does not depend on the order.
func (c *collection) core(ctx context.Context, s *survivors, pairs *spool) error {
	for {
		if err := cmp.Or(ctx.Err(), s.count(pairs)); err != nil {
			return err
		}
		changed := take(s.userGone, s.perUser, c.sieve.MinUser)
		if !take(s.itemGone, s.perItem, c.sieve.MinItem) && !changed {
			return nil
		}
	}
}

// take marks what has fewer than least records and says whether a record went with it.
func take(gone []bool, count []int32, least int) (changed bool) {
	for i, n := range count {
		if !gone[i] && int(n) < least {
			gone[i] = true
			changed = changed || n > 0
		}
	}
	return changed
}

// draw keeps LimitUsers of the users that are left: those whose ids, hashed with the seed, come first.
func (c *collection) draw(s *survivors, pairs *spool) error {
	limit := c.sieve.LimitUsers
	if limit == 0 {
		return nil
	}
	type lot struct {
		hash [8]byte
		user int32
	}
	var lots []lot
	h, seed := sha256.New(), binary.LittleEndian.AppendUint64(nil, uint64(c.sieve.Seed))
	var sum []byte
	for u, n := range s.perUser {
		if n == 0 {
			continue
		}
		h.Reset()
		h.Write(seed)
		h.Write(c.users.at(int32(u)))
		sum = h.Sum(sum[:0])
		lots = append(lots, lot{[8]byte(sum), int32(u)})
	}
	if len(lots) <= limit {
		return nil
	}
	slices.SortFunc(lots, func(a, b lot) int {
		return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), bytes.Compare(c.users.at(a.user), c.users.at(b.user)))
	})
	for _, l := range lots[limit:] {
		s.userGone[l.user] = true
	}
	before := s.kept
	if err := s.count(pairs); err != nil {
		return err
	}
	if n := before - s.kept; n > 0 {
		c.filtered["limit_users"] += n
	}
	return nil
}
