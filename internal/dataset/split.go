package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
	"slices"

	"recpie/internal/fault"
)

// MinRecords is the fewest rated records that a user must have to take part.
const MinRecords = 5

// SplitOptions varies the split. The zero value is the protocol's.
type SplitOptions struct {
	MinRecords  int  // fewest records of a user, 0 = 5
	TieSafe     bool // move each cut back to the start of its tie group, so that records of one moment are all on one side
	TrainSparse bool // records of users with fewer are training records, though nobody is judged on those users
}

// Split says which records serve for training, validation and test. The lists hold indexes into Dataset.Records in ascending order.
type Split struct {
	Train, Val, Test []int32
	Digest           string // sha256 in hex of the canonical content: scale, pairs, times and parts, no outcome
	Options          SplitOptions
	Sample           *Sample // nil for a split of all users

	whole *Split // the split of all users that this one is a sample of; itself when it is one
}

// Sample records how users were drawn.
type Sample struct {
	Pairs      int   `json:"pairs"`                 // drawing ends when so many are reached; 0 draws all users that may be drawn
	MaxRecords int   `json:"max_records,omitempty"` // users with more rated records are not drawn; 0 sets no limit
	Seed       int64 `json:"seed"`
	Users      int   `json:"users"` // how many were drawn; set by SampleUsers
}

// MakeSplit splits every user's records by order: ⌊.8 n⌋ train, of which the last max(1, ⌊.1 n_train⌋) validate, the rest test.
// With TieSafe a cut inside a group of equal times moves to the group's start; a user whose training part would be empty so
// takes no part.
func MakeSplit(ds *Dataset, opts SplitOptions) (*Split, error) {
	if opts.MinRecords <= 0 {
		opts.MinRecords = MinRecords
	}
	s := &Split{Options: opts}
	s.whole = s
	judged := 0
	for u := range ds.Users {
		from, to := ds.OfUser(int32(u))
		n := to - from
		if int(n) < opts.MinRecords {
			if opts.TrainSparse {
				s.Train = appendRange(s.Train, from, to)
			}
			continue
		}
		judged++
		nTrain := n * 8 / 10
		nVal := max(1, nTrain/10)
		cut, val := from+nTrain, from+nTrain-nVal
		if opts.TieSafe {
			cut = groupStart(ds, from, cut)
			val = groupStart(ds, from, min(val, max(from, cut-1)))
		}
		if val <= from {
			if opts.TieSafe {
				continue
			}
			val = from
		}
		s.Train = appendRange(s.Train, from, val)
		s.Val = appendRange(s.Val, val, cut)
		s.Test = appendRange(s.Test, cut, to)
	}
	if len(s.Train) == 0 || judged == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "dataset: split", "no user of %s has %d records", ds.Name, opts.MinRecords),
			"a user needs at least five rated records to be split")
	}
	s.Digest = s.digest(ds)
	return s, nil
}

// Inner splits the training and validation records of s as MakeSplit splits all records, so that its test part is a rehearsal of the
// test: as long a stretch of time in proportion, with the same frozen histories. The test records of s belong to no part of it and its
// views do not show them. Users who keep fewer than two records before the cut only train.
func (s *Split) Inner(ds *Dataset) *Split {
	in := &Split{Options: s.Options}
	in.whole = in
	of := slices.Concat(s.whole.Train, s.whole.Val)
	slices.Sort(of)
	for len(of) > 0 {
		n := 1
		for n < len(of) && ds.Records[of[n]].User == ds.Records[of[0]].User {
			n++
		}
		nTrain := n * 8 / 10
		nVal := max(1, nTrain/10)
		if nTrain < 2 {
			nTrain, nVal = n, 0
		}
		in.Train = append(in.Train, of[:nTrain-nVal]...)
		in.Val = append(in.Val, of[nTrain-nVal:nTrain]...)
		in.Test = append(in.Test, of[nTrain:n]...)
		of = of[n:]
	}
	in.Digest = in.digest(ds)
	return in
}

// groupStart returns the first record of the tie group that the boundary at r divides, r itself when it divides none.
func groupStart(ds *Dataset, from, r int32) int32 {
	for r > from && int(r) < len(ds.Records) {
		a, b := ds.Records[r-1], ds.Records[r]
		if a.HasTime != b.HasTime || a.Time != b.Time {
			break
		}
		r--
	}
	return r
}

func appendRange(to []int32, from, end int32) []int32 {
	for r := from; r < end; r++ {
		to = append(to, r)
	}
	return to
}

// SampleUsers draws users by seed until they have at least pairs records together, all of them kept. The sampled split lists
// their records alone; its views still see the training records of every user. A sample of everything is the split itself.
func (s *Split) SampleUsers(ds *Dataset, want Sample) *Split {
	w := s.whole
	total := len(w.Train) + len(w.Val) + len(w.Test)
	if want.MaxRecords <= 0 && (want.Pairs <= 0 || want.Pairs >= total) {
		return w
	}
	var users []int32
	for _, r := range w.Train {
		if u := ds.Records[r].User; len(users) == 0 || users[len(users)-1] != u {
			users = append(users, u)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(want.Seed), 0x5eed))
	rng.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	drawn, have := make(map[int32]bool), 0
	for _, u := range users {
		if want.Pairs > 0 && have >= want.Pairs {
			break
		}
		from, to := ds.OfUser(u)
		if want.MaxRecords > 0 && int(to-from) > want.MaxRecords {
			continue
		}
		have += int(to - from)
		drawn[u] = true
	}
	keep := func(recs []int32) []int32 {
		return slices.DeleteFunc(slices.Clone(recs), func(r int32) bool { return !drawn[ds.Records[r].User] })
	}
	want.Users = len(drawn)
	c := &Split{Train: keep(w.Train), Val: keep(w.Val), Test: keep(w.Test), Options: w.Options,
		Sample: &want, whole: w}
	c.Digest = c.digest(ds)
	return c
}

// Whole returns the split of all users, which is s itself unless s is a sample.
func (s *Split) Whole() *Split { return s.whole }

// digest hashes what the split means, independent of how the file was laid out.
func (s *Split) digest(ds *Dataset) string {
	h := sha256.New()
	_, _ = io.WriteString(h, "recpie split 1\n")
	hashFloats(h, ds.Spec.Min, ds.Spec.Max)
	if s.whole != s {
		_, _ = io.WriteString(h, s.whole.Digest)
	}
	for _, part := range [][]int32{s.Train, s.Val, s.Test} {
		hashInts(h, int64(len(part)))
		for _, r := range part {
			rec := ds.Records[r]
			hashString(h, ds.Users[rec.User])
			hashString(h, ds.Items[rec.Item].ID)
			hashInts(h, rec.Time)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashInts(h hash.Hash, vs ...int64) {
	var b [8]byte
	for _, v := range vs {
		binary.LittleEndian.PutUint64(b[:], uint64(v))
		_, _ = h.Write(b[:])
	}
}

func hashString(h hash.Hash, s string) {
	hashInts(h, int64(len(s)))
	_, _ = io.WriteString(h, s)
}
