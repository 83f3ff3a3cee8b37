// Package catalog knows where public data sets come from: who publishes them, under which terms, which files to fetch, and how to import them. It
// fetches nothing: the terms of most sets want a person to accept them.
package catalog

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"recpie/internal/fault"
)

// Set is one public data set.
type Set struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Format  string   `json:"format"` // as 'recpie data import --format' takes it, "" when there is nothing to import
	Page    string   `json:"page"`   // of the publisher's project
	How     string   `json:"how"`    // to get the files there
	Terms   string   `json:"terms"`
	Files   []string `json:"files"`
	Size    string   `json:"size"` // rough
	Notes   []string `json:"notes,omitempty"`
	Command string   `json:"command"` // to run next
}

// Find returns the set of this name.
func Find(name string) (*Set, error) {
	for i := range sets {
		if sets[i].Name == name {
			return &sets[i], nil
		}
	}
	return nil, fault.WithHint(fault.Newf(fault.Fatal, "data", "there is no set %q", name), "one of: "+strings.Join(Names(), ", "))
}

// Names lists the sets in their order.
func Names() (names []string) {
	for _, s := range sets {
		names = append(names, s.Name)
	}
	return names
}

// All returns the sets.
func All() []Set { return slices.Clone(sets) }

// WriteText prints what to do for a person.
func (s *Set) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", s.Name, s.Title)
	for _, l := range [][2]string{{"where", s.Page}, {"how", s.How}, {"terms", s.Terms}, {"files", strings.Join(s.Files, ", ")}, {"size", s.Size}} {
		if l[1] != "" {
			fmt.Fprintf(&b, "  %-6s %s\n", l[0], l[1])
		}
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "  %-6s %s\n", "note", n)
	}
	fmt.Fprintf(&b, "  next:\n    %s\n", s.Command)
	_, err := io.WriteString(w, b.String())
	return err
}
