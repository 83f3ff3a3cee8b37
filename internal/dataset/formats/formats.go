// Package formats reads the raw public files of known data sets: streams of items and of rated records, in bounded memory whatever
// the files' size. Rows are parsed by several workers and handed on in the order of the file, so that a result never depends on their
// number. A broken row is counted, described and written to the quarantine; it ends the reading only when so many rows are broken that
// the file itself must be in doubt.
package formats

import (
	"context"

	"recpie/internal/dataset"
)

// Options says how to read. The zero value is sound.
type Options struct {
	Workers   int                                 // parsers at work at once, 0 = GOMAXPROCS
	MaxBroken float64                             // share of broken rows of a file that is borne, 0 = .05; ten rows are always borne
	Where     map[string][]string                 // what to pick or how columns are called, by the names that List tells of the format
	MaxRecord int                                 // bytes of one row, 0 = 1 MiB
	Reject    func(dataset.RowError, []byte)      // sees each broken row with its raw bytes, in the order of the file; may be nil
	Progress  func(file string, done, size int64) // bytes of the (compressed) file read so far; may be nil

	block int // bytes of whole rows that a worker gets at a time, 0 = 1 MiB; tests make it small
}

// Source is one raw data set. Items come first: a format that picks its records by a property of their items (a metropolitan area, a
// postcode) has to know them.
type Source interface {
	// Spec says what the set is about: domain, scale, inputs, review column.
	Spec() dataset.Spec
	// Items streams the items in batches that the callee may keep.
	Items(ctx context.Context, yield func([]dataset.Item) error) error
	// Events streams the rated records in batches that the callee may keep. The texts of a batch share memory, some 32 KiB a piece: who
	// keeps few of them copies them. Row counts the data rows of their file from 0.
	Events(ctx context.Context, yield func([]dataset.Event) error) error
	// Files reports what was found in each file so far.
	Files() []dataset.FileReport
}
