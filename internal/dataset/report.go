package dataset

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"recpie/internal/dataset/layout"
)

// RowError says what is wrong with one row of a file and what would mend it.
type RowError struct {
	File   string `json:"file"`
	Line   int    `json:"line"`             // from 1
	Column int    `json:"column,omitempty"` // byte in the line, from 1; 0 when the whole row is meant
	Field  string `json:"field,omitempty"`
	Value  string `json:"value,omitempty"` // shortened
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// Error returns "file:line:column: field "value": reason; remedy".
func (e *RowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d", e.File, e.Line)
	if e.Column > 0 {
		fmt.Fprintf(&b, ":%d", e.Column)
	}
	b.WriteString(": ")
	if e.Field != "" {
		fmt.Fprintf(&b, "%s %q: ", e.Field, e.Value)
	}
	b.WriteString(e.Reason)
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// FileReport counts the rows of one file. Rows = Kept + Unrated + Skipped + Broken; Duplicates are among the kept.
type FileReport struct {
	Path       string         `json:"path"`
	Rows       int            `json:"rows"`
	Kept       int            `json:"kept"`
	Unrated    int            `json:"unrated"` // no rating: not a rated record, not an error
	Broken     int            `json:"broken"`
	Skipped    int            `json:"skipped,omitempty"` // not asked for: outside the chosen places or kinds
	Duplicates int            `json:"duplicates"`        // replaced by a later row of the same pair
	Reasons    map[string]int `json:"reasons,omitempty"`
	Examples   []RowError     `json:"examples,omitempty"` // the first broken rows
}

// SplitReport counts the parts of the protocol's split.
type SplitReport struct {
	Users   int    `json:"users"`
	Train   int    `json:"train"` // validation not counted
	Val     int    `json:"val"`
	Test    int    `json:"test"`
	TieCuts int    `json:"tie_cuts"` // users whose cut between training and test falls inside a group of equal times
	Digest  string `json:"digest"`
}

// Report is what was found in a data set.
type Report struct {
	Name         string       `json:"name"`
	Path         string       `json:"path"`
	Format       string       `json:"format"` // csv, jsonl, parquet, recbole, recpie
	Spec         Spec         `json:"spec"`
	Files        []FileReport `json:"files"`
	Users        int          `json:"users"`
	Items        int          `json:"items"`
	Records      int          `json:"records"`
	WithTime     int          `json:"with_time"`
	WithReview   int          `json:"with_review"`
	WithTitle    int          `json:"items_with_title"`
	WithProfile  int          `json:"items_with_profile"`
	UnknownItems int          `json:"items_without_entry"` // rated items that the items file does not describe
	Ignored      []string     `json:"ignored,omitempty"`   // columns of the items file that are not allow-listed
	Warnings     []string     `json:"warnings,omitempty"`
	Split        *SplitReport `json:"split,omitempty"`
	Imported     *Imported    `json:"imported,omitempty"` // nil for raw files
}

// Imported says where an imported set comes from and what the import left out.
type Imported struct {
	Program  string         `json:"program"`
	Source   layout.Source  `json:"source"`
	Options  map[string]any `json:"options,omitempty"`
	Counts   layout.Counts  `json:"counts"`
	Verified bool           `json:"verified"` // digests were compared, not sizes alone
}

// Broken counts the quarantined rows of all files.
func (r *Report) Broken() (n int) {
	for _, f := range r.Files {
		n += f.Broken
	}
	return n
}

// WriteText prints the report for a person.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, %s)\n", r.Name, r.Format, r.Path)
	fmt.Fprintf(&b, "  domain %s, %q, ratings %g..%g, inputs %s\n", r.Spec.Domain, r.Spec.Verb, r.Spec.Min, r.Spec.Max, strings.Join(r.Spec.ItemInputs, ", "))
	fmt.Fprintf(&b, "  %d records, %d users, %d items; %d with time, %d with review; items: %d with title, %d with profile\n",
		r.Records, r.Users, r.Items, r.WithTime, r.WithReview, r.WithTitle, r.WithProfile)
	if s := r.Split; s != nil {
		fmt.Fprintf(&b, "  split: %d users, train %d, validation %d, test %d; %d users cut inside a tie; digest %.12s\n",
			s.Users, s.Train, s.Val, s.Test, s.TieCuts, s.Digest)
	}
	if m := r.Imported; m != nil {
		how := "sizes compared"
		if m.Verified {
			how = "SHA-256 compared"
		}
		fmt.Fprintf(&b, "  imported from %s (%d files, %s): %s\n", m.Source.Format, len(m.Source.Files), how, m.Counts.String())
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "  %s: %d rows, %d kept, %d unrated, %d duplicates, %d broken\n", f.Path, f.Rows, f.Kept, f.Unrated, f.Duplicates, f.Broken)
		for _, k := range sortedByCount(f.Reasons) {
			fmt.Fprintf(&b, "    %d × %s\n", f.Reasons[k], k)
		}
		for i := range f.Examples {
			fmt.Fprintf(&b, "    %s\n", f.Examples[i].Error())
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", warning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortedByCount(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
	return keys
}
