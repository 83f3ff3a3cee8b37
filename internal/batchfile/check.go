package batchfile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sort"
	"strings"

	"recpie/internal/fault"
)

// listed is how many findings of a kind a report spells out; all are counted.
const listed = 20

// Report is what Check found. Lines counts the usable lines and the malformed ones, not blank ones.
type Report struct {
	Lines          int64       `json:"lines"`
	Requests       int64       `json:"requests"`  // of the usable lines, those of OpenAI batch files
	Sentences      int64       `json:"sentences"` // what the pairs ask for: a line for both polarities counts twice
	Malformed      int64       `json:"malformed"`
	DuplicateIDs   int64       `json:"duplicate_ids"`   // lines whose custom_id an earlier line has, for the same polarity
	DuplicatePairs int64       `json:"duplicate_pairs"` // lines that ask for a sentence an earlier line asks for
	Errors         []LineError `json:"errors,omitempty"`
	IDs            []Duplicate `json:"ids,omitempty"`
	Pairs          []Duplicate `json:"pairs,omitempty"`
}

// Position is a line of a file, counted as Line.No.
type Position struct {
	File string `json:"file"`
	Line int64  `json:"line"`
}

// String returns "file:line".
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Duplicate is a line that repeats an earlier one.
type Duplicate struct {
	Key   string   `json:"key"` // the custom_id, or the pair's two ids
	At    Position `json:"at"`
	First Position `json:"first"` // the line it repeats
}

// Err returns what is wrong in a sentence, with the first finding of each kind, nil when nothing is.
func (r *Report) Err() error {
	var parts []string
	if r.Malformed > 0 {
		parts = append(parts, fmt.Sprintf("%d malformed lines, the first %s", r.Malformed, r.Errors[0].Error()))
	}
	for _, d := range []struct {
		n    int64
		what string
		list []Duplicate
	}{{r.DuplicateIDs, "custom_ids", r.IDs}, {r.DuplicatePairs, "pairs", r.Pairs}} {
		if d.n > 0 {
			parts = append(parts, fmt.Sprintf("%d lines repeat %s, the first %s as %s", d.n, d.what, d.list[0].At, d.list[0].First))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fatal("mend or remove these lines: nothing was sent", "of %d lines: %s", r.Lines, strings.Join(parts, "; "))
}

// Checker looks for malformed and repeated lines in one pass, as Check does, while its caller reads them for a purpose of its own: the
// standard input can be read only once.
//
// It keeps at most 16 bytes per pair and per custom_id. Lines are told apart by 64-bit hashes under a key that is drawn anew in every
// process: that two different ones look alike happens in n lines with a probability of n²/2⁶⁵ (at 5 million lines 7e-7), and costs a
// false report, never a lost one.
type Checker struct {
	report Report
	seed   maphash.Seed
	ids    seen
	pairs  seen
	files  []fileStart
	last   int64 // the highest line of all files, as if they were one
}

type fileStart struct {
	name string
	base int64 // lines of the files before
}

// NewChecker returns a Checker that has seen nothing.
func NewChecker() *Checker { return &Checker{seed: maphash.MakeSeed()} }

// File begins a new file: the lines that follow are numbered within it.
func (c *Checker) File(name string) {
	c.files = append(c.files, fileStart{name, c.last})
}

// Add takes what Reader.Next returned. Errors that are not about a line come back as they are, io.EOF too.
func (c *Checker) Add(line Line, err error) error {
	if len(c.files) == 0 {
		c.File("input")
	}
	base := c.files[len(c.files)-1].base
	var bad *LineError
	if err != nil && (fault.ClassOf(err) != fault.Item || !errors.As(err, &bad)) {
		return err
	}
	c.report.Lines++
	if bad != nil {
		c.last = max(c.last, base+bad.Line)
		if c.report.Malformed++; len(c.report.Errors) < listed {
			c.report.Errors = append(c.report.Errors, *bad)
		}
		return nil
	}
	at := base + line.No
	c.last = max(c.last, at)
	parts, sentences := uint8(allParts), int64(2)
	if line.Polarity != Both {
		parts, sentences = 1<<line.Polarity, 1
	}
	if line.ID != "" {
		if first, twice := c.ids.add(maphash.String(c.seed, line.ID), parts, at); twice {
			c.report.DuplicateIDs++
			c.report.IDs = c.list(c.report.IDs, line.ID, at, first)
		}
	}
	if line.URL != "" || line.User == "" {
		c.report.Requests++
		return nil
	}
	c.report.Sentences += sentences
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(line.User)
	_ = h.WriteByte(0) // no id contains it
	_, _ = h.WriteString(line.Item)
	if first, twice := c.pairs.add(h.Sum64(), parts, at); twice {
		c.report.DuplicatePairs++
		c.report.Pairs = c.list(c.report.Pairs, line.User+" "+line.Item, at, first)
	}
	return nil
}

func (c *Checker) list(list []Duplicate, key string, at, first int64) []Duplicate {
	if len(list) == listed {
		return list
	}
	return append(list, Duplicate{Key: clip(key), At: c.position(at), First: c.position(first)})
}

// position finds the file of a line that is numbered through all of them.
func (c *Checker) position(at int64) Position {
	i := sort.Search(len(c.files), func(i int) bool { return c.files[i].base >= at }) - 1
	return Position{c.files[i].name, at - c.files[i].base}
}

// Report returns what was found so far.
func (c *Checker) Report() *Report { return &c.report }

// Check reads inputs from beginning to end, as Open does, and reports everything that is wrong with their lines. custom_ids and pairs are
// compared across all of them. The error is about a file that cannot be read, or the context's.
func Check(ctx context.Context, format string, paths ...string) (*Report, error) {
	c := NewChecker()
	for _, path := range paths {
		if err := c.read(ctx, path, format); err != nil {
			return nil, err
		}
	}
	return c.Report(), nil
}

func (c *Checker) read(ctx context.Context, path, format string) error {
	r, err := Open(path, format)
	if err != nil {
		return err
	}
	defer r.Close()
	c.File(r.file)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return fault.New(fault.Transient, "batchfile: check", context.Cause(ctx))
		}
		if err := c.Add(r.Next()); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
