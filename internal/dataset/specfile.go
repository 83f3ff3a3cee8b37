package dataset

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"recpie/internal/fault"
)

// specFile is dataset.yaml: how to read the files beside it.
type specFile struct {
	path         string
	format       string // "recpie" of an imported set, "" else
	spec         Spec
	interactions string
	items        string
	at           map[string]position // where each key's value stands
}

var (
	specKeys     = []string{"format", "domain", "verb", "rating", "interactions", "items", "item_inputs", "review"}
	domains      = []string{"movie", "product", "hotel", "restaurant", "place"}
	defaultVerbs = map[string]string{"movie": "watched this movie", "product": "purchased this product", "hotel": "stayed at this hotel",
		"restaurant": "visited this restaurant", "place": "visited this place"}
	// neverInputs are outcomes whatever a file says of them.
	neverInputs = []string{"rating", "review", "summary", "aspects", "aspect_ratings", "all_features", "tags", "fresh", "rating_raw"}
)

func readSpecFile(path string) (*specFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20+1))
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset", err)
	}
	if len(data) > 1<<20 {
		return nil, fault.Newf(fault.Fatal, "dataset", "%s: larger than 1 MiB", path)
	}
	return parseSpec(path, data)
}

// parseSpec reads the YAML of a dataset.yaml. Unknown and repeated keys are errors.
func parseSpec(path string, data []byte) (*specFile, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fault.Newf(fault.Fatal, "dataset", "%s: %w", path, err)
	}
	s := &specFile{path: path, at: make(map[string]position)}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fault.WithHint(s.errorAt(position{1, 1}, "a mapping of keys is expected"), "write domain, verb, rating, interactions, items, item_inputs, review")
	}
	err := s.mapping(doc.Content[0], specKeys, func(key string, v *yaml.Node) (err error) {
		s.at[key] = position{v.Line, v.Column}
		switch key {
		case "domain":
			if s.spec.Domain, err = s.text(v); err == nil && s.spec.Domain != "" && !slices.Contains(domains, s.spec.Domain) {
				err = s.unknown(v, "domain", s.spec.Domain, domains)
			}
		case "format":
			if s.format, err = s.text(v); err == nil && s.format != "" && s.format != "recpie" {
				err = s.unknown(v, "format", s.format, []string{"recpie"})
			}
		case "verb":
			s.spec.Verb, err = s.text(v)
		case "interactions":
			s.interactions, err = s.file(v)
		case "items":
			s.items, err = s.file(v)
		case "review":
			s.spec.Review, err = s.text(v)
		case "rating":
			err = s.rating(v)
		case "item_inputs":
			err = s.inputs(v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *specFile) mapping(n *yaml.Node, keys []string, set func(string, *yaml.Node) error) error {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode || !slices.Contains(keys, k.Value):
			return s.unknown(k, "key", k.Value, keys)
		case seen[k.Value]:
			return s.errorAt(position{k.Line, k.Column}, "key %q is there twice", k.Value)
		}
		seen[k.Value] = true
		if err := set(k.Value, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *specFile) rating(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return s.errorAt(position{n.Line, n.Column}, "rating: {min: 1, max: 5} is expected")
	}
	have := 0
	err := s.mapping(n, []string{"min", "max"}, func(key string, v *yaml.Node) error {
		x, err := strconv.ParseFloat(v.Value, 64)
		if err != nil || x-x != 0 || v.Kind != yaml.ScalarNode {
			return s.errorAt(position{v.Line, v.Column}, "rating %s: %q is not a finite number", key, v.Value)
		}
		if have++; key == "min" {
			s.spec.Min = x
		} else {
			s.spec.Max = x
		}
		return nil
	})
	if err == nil && (have != 2 || s.spec.Min >= s.spec.Max) {
		err = s.errorAt(position{n.Line, n.Column}, "rating needs min and max with min < max")
	}
	return err
}

func (s *specFile) inputs(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return s.errorAt(position{n.Line, n.Column}, "item_inputs: a list as [title, categories] is expected")
	}
	s.spec.ItemInputs = []string{}
	for _, v := range n.Content {
		name, err := s.text(v)
		switch {
		case err != nil:
			return err
		case slices.Contains(neverInputs, name):
			return s.errorAt(position{v.Line, v.Column}, "item_inputs: %q is an outcome and cannot be an input", name)
		case name == "" || slices.Contains(s.spec.ItemInputs, name):
			return s.errorAt(position{v.Line, v.Column}, "item_inputs: %q is empty or there twice", name)
		}
		s.spec.ItemInputs = append(s.spec.ItemInputs, name)
		s.at["item_inputs."+name] = position{v.Line, v.Column}
	}
	return nil
}

// text returns a scalar's text, "" for null.
func (s *specFile) text(n *yaml.Node) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", s.errorAt(position{n.Line, n.Column}, "a single value is expected")
	case n.Tag == "!!null":
		return "", nil
	}
	return n.Value, nil
}

// file returns the name of a file that lies beside or below dataset.yaml.
func (s *specFile) file(n *yaml.Node) (string, error) {
	name, err := s.text(n)
	if err == nil && name != "" && !filepath.IsLocal(name) {
		err = s.errorAt(position{n.Line, n.Column}, "%q leads out of the folder of %s", name, filepath.Base(s.path))
	}
	return name, err
}

func (s *specFile) unknown(n *yaml.Node, what, word string, known []string) error {
	err := s.errorAt(position{n.Line, n.Column}, "unknown %s %q", what, word)
	return fault.WithHint(err, didYouMean(word, known))
}

func (s *specFile) errorAt(p position, format string, args ...any) error {
	return fault.New(fault.Fatal, "", fmt.Errorf("%s:%d:%d: %w", s.path, p.line, p.column, fmt.Errorf(format, args...)))
}

// didYouMean names the candidate nearest to word, or all of them when none is near.
func didYouMean(word string, known []string) string {
	best, distance := "", len(word)/2+2
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return "one of: " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is Levenshtein's, on bytes; long words are not near to anything.
func editDistance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return len(a) + len(b)
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		diagonal := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, prev[j+1] = prev[j+1], min(diagonal+cost, prev[j]+1, prev[j+1]+1)
		}
	}
	return prev[len(b)]
}
