package tinker

import (
	"fmt"
	"regexp"
	"strings"
)

// Path addresses a checkpoint: tinker://{model}/{kind}/{name}.
type Path struct {
	Model string
	Kind  string // KindWeights, KindSampler; "" in the two-segment paths of some servers
	Name  string
}

// The kinds of checkpoint.
const (
	KindWeights = "weights"         // weights and optimizer moments
	KindSampler = "sampler_weights" // weights alone
)

var (
	nameRE  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	modelRE = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,255}$`)
)

// ValidName tells whether a checkpoint name is safe and portable: letters, digits, "_" and "-", at most 255.
func ValidName(name string) bool { return nameRE.MatchString(name) }

// String returns the tinker:// form.
func (p Path) String() string { return "tinker://" + p.Model + "/" + p.CheckpointID() }

// CheckpointID returns kind and name as the listing and the archive route want them.
func (p Path) CheckpointID() string {
	if p.Kind == "" {
		return p.Name
	}
	return p.Kind + "/" + p.Name
}

// ParsePath reads a tinker:// path. Names that could leave a folder are refused, since a path ends in a file system.
func ParsePath(s string) (Path, error) {
	rest, ok := strings.CutPrefix(s, "tinker://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return Path{}, fmt.Errorf("%q is no path of the form tinker://model/kind/name", s)
	}
	p := Path{Model: parts[0], Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		p.Kind = parts[1]
		if p.Kind != KindWeights && p.Kind != KindSampler {
			return Path{}, fmt.Errorf("%q: unknown kind of checkpoint %q", s, p.Kind)
		}
	}
	if !modelRE.MatchString(p.Model) || strings.Trim(p.Model, ".") == "" || !ValidName(p.Name) {
		return Path{}, fmt.Errorf("%q: a model or checkpoint name holds characters that are not allowed", s)
	}
	return p, nil
}
