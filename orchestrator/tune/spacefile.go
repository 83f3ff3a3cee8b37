package tune

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"recpie/internal/fault"
)

// Setting is what a model lets be searched.
type Setting struct {
	Name    string
	Whole   bool                    // it takes whole numbers
	Check   func(text string) error // says what is wrong with a value; nil accepts all
	Numbers bool                    // it takes numbers, so that it may have a range; else it has choices alone
}

// Entry is one setting of a space as a person wrote it.
type Entry struct {
	Place      string // for messages, as "space.yaml:3" or "--space"
	Name, Text string
}

// ReadSpace reads the entries of a YAML file of lines like "recommender.dropout: 0..0.5".
func ReadSpace(path string) ([]Entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "space", err), "name a YAML file of lines like recommender.dropout: 0..0.5")
	}
	return parseSpace(path, text)
}

func parseSpace(path string, text []byte) ([]Entry, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fault.Newf(fault.Fatal, "space", "%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil, fault.Newf(fault.Fatal, "space", "%s is empty", path)
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fault.Newf(fault.Fatal, "space", "%s:%d: the file must hold lines like recommender.dropout: 0..0.5", path, top.Line)
	}
	var entries []Entry
	var errs []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		k, v := top.Content[i], top.Content[i+1]
		place := fmt.Sprintf("%s:%d", path, k.Line)
		if k.Kind != yaml.ScalarNode || v.Kind != yaml.ScalarNode {
			errs = append(errs, fmt.Errorf("%s: %s must be one range, as 0..0.5", place, k.Value))
			continue
		}
		entries = append(entries, Entry{place, k.Value, v.Value})
	}
	if len(errs) > 0 {
		return nil, fault.New(fault.Fatal, "space", errors.Join(errs...))
	}
	return entries, nil
}

// MakeSpace makes a space of entries about known settings. Every fault found is reported with its place, not just the first.
func MakeSpace(entries []Entry, known []Setting) (Space, error) {
	var s Space
	var errs []error
	fail := func(e Entry, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", e.Place, fmt.Sprintf(format, args...)))
	}
	seen := map[string]bool{}
	for _, e := range entries {
		at := slices.IndexFunc(known, func(k Setting) bool { return k.Name == e.Name })
		if at < 0 {
			fail(e, "%q cannot be searched: these can: %s", e.Name, strings.Join(names(known), ", "))
			continue
		}
		if seen[e.Name] {
			fail(e, "%s is given twice", e.Name)
			continue
		}
		seen[e.Name] = true
		r, err := ParseRange(e.Text, known[at].Whole)
		if err == nil && len(r.Choices) == 0 && !known[at].Numbers {
			err = errors.New("it takes no numbers: write choice:A,B")
		}
		if err == nil {
			err = r.check(known[at].Check)
		}
		if err != nil {
			fail(e, "%s: %v", e.Name, err)
			continue
		}
		s = append(s, Param{e.Name, r})
	}
	if len(errs) > 0 {
		return nil, fault.New(fault.Fatal, "space", errors.Join(errs...))
	}
	return s, fault.New(fault.Fatal, "space", s.sort())
}

// check asks about the ends or the choices of a range.
func (r Range) check(ok func(string) error) error {
	if ok == nil {
		return nil
	}
	all := r.Choices
	if len(all) == 0 {
		all = strings.Split(strings.TrimPrefix(r.String(), "log:"), "..")
	}
	for _, text := range all {
		if err := ok(text); err != nil {
			return err
		}
	}
	return nil
}

func names(known []Setting) (out []string) {
	for _, k := range known {
		out = append(out, k.Name)
	}
	return out
}
