package lm

import (
	"container/list"

	"recpie/internal/torch"
)

const pageSize = torch.PageSize

// pool hands out the pages of the memory for keys and values, and finds those that hold the beginning of a prompt already. A full page of a
// prompt is known by the page before it and its own keys, so equal beginnings, adapter included, have equal pages (as in vLLM's prefix
// caching). Pages that nobody holds are kept until their room is needed, the longest unused first.
type pool struct {
	pages []pageInfo
	fresh int32      // pages from it on were never used
	idle  *list.List // of int32: pages that nobody holds, known ones and those without content, longest unused first
	known map[pageKey]int32
	last  uint64 // serial
	kept  int    // pages set aside for continuations under way
}

// pageKey names a page's content: what comes before it, by serial, and its own keys.
type pageKey struct {
	before uint64
	keys   [pageSize]int64
}

type pageInfo struct {
	serial uint64 // of its content, 0 while it is not known
	key    pageKey
	refs   int
	idle   *list.Element
}

func newPool(pages int) *pool {
	return &pool{pages: make([]pageInfo, pages), idle: list.New(), known: map[pageKey]int32{}}
}

// root returns a serial for the beginning of all prompts of one network.
func (p *pool) root() uint64 {
	p.last++
	return p.last
}

// share is the part of the pages that are held or set aside.
func (p *pool) share() float64 {
	return float64(int(p.fresh)-p.idle.Len()+p.kept) / float64(len(p.pages))
}

// free is how many pages can be taken.
func (p *pool) free() int { return len(p.pages) - int(p.fresh) + p.idle.Len() - p.kept }

// take hands out a page without content. The caller has asked free.
func (p *pool) take() int32 {
	e := p.idle.Front()
	if e != nil && (p.pages[e.Value.(int32)].serial == 0 || int(p.fresh) == len(p.pages) || p.idle.Len() > len(p.pages)/4) {
		i := p.idle.Remove(e).(int32)
		p.forget(i)
		p.pages[i].idle, p.pages[i].refs = nil, 1
		return i
	}
	i := p.fresh
	p.fresh++
	p.pages[i].refs = 1
	return i
}

// forget drops the knowledge of a page's content. Pages behind it can no longer be found; they fall out in their turn.
func (p *pool) forget(i int32) {
	if pg := &p.pages[i]; pg.serial != 0 {
		delete(p.known, pg.key)
		pg.serial = 0
	}
}

// hold adds a holder.
func (p *pool) hold(i int32) {
	pg := &p.pages[i]
	if pg.refs++; pg.refs == 1 {
		p.idle.Remove(pg.idle)
		pg.idle = nil
	}
}

// drop removes a holder. What has no content to be found again is the next to be taken.
func (p *pool) drop(pages ...int32) {
	for k := len(pages) - 1; k >= 0; k-- { // beginnings go last
		i := pages[k]
		pg := &p.pages[i]
		if pg.refs--; pg.refs > 0 {
			continue
		}
		if pg.serial == 0 {
			pg.idle = p.idle.PushFront(i)
		} else {
			pg.idle = p.idle.PushBack(i)
		}
	}
}

// match holds the known pages of the beginning of keys and returns them, with the serial of the last.
func (p *pool) match(root uint64, keys []int64) (pages []int32, serial uint64) {
	serial = root
	for len(keys) >= pageSize {
		i, ok := p.known[pageKey{serial, [pageSize]int64(keys[:pageSize])}]
		if !ok {
			break
		}
		p.hold(i)
		pages, serial, keys = append(pages, i), p.pages[i].serial, keys[pageSize:]
	}
	return pages, serial
}

// know makes a held page findable by its content. Where the content is known already the older page stays the one that is found, and its serial is
// returned.
func (p *pool) know(i int32, before uint64, keys []int64) (serial uint64) {
	key := pageKey{before, [pageSize]int64(keys)}
	if old, ok := p.known[key]; ok {
		return p.pages[old].serial
	}
	p.last++
	p.pages[i].serial, p.pages[i].key = p.last, key
	p.known[key] = i
	return p.last
}

// reset forgets all contents: a step failed, and what it was to write may not be there.
func (p *pool) reset() {
	for i := range p.pages[:p.fresh] {
		p.forget(int32(i))
	}
}
