package archtest

import (
	"bufio"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// graph maps packages of this module, by their path inside it, to what their files import.
type graph map[string][]string

// module is the prefix of this module's imports.
const module = "recpie/"

// imports reads all packages below root. With tests it reads their test files alone, else everything but these.
func imports(t *testing.T, root string, tests bool) graph {
	t.Helper()
	g := graph{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "runs") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") != tests {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(g[pkg], name) {
				g[pkg] = append(g[pkg], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// root finds the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if f, ferr := os.Open(filepath.Join(dir, "go.mod")); ferr == nil {
			defer f.Close()
			line, _ := bufio.NewReader(f).ReadString('\n')
			if strings.TrimSpace(line) != "module "+strings.TrimSuffix(module, "/") {
				t.Fatalf("this module is %q", line)
			}
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal("no go.mod above the test: ", err)
	return ""
}

// A floor of the house may import floors below it, never one above or, but for base and cmd, another room beside it.
const (
	base = iota
	middle
	conductor // orchestrator
	top       // what serves a finished thing: only cmd may import it
	command
)

// rooms of the middle floor know nothing of each other.
var rooms = []string{"recommender", "policy", "prompts", "clients", "adapters"}

// serving packages lie in internal and are not base.
var serving = []string{"internal/lmserver", "internal/web"}

// aside lists what is no part of the product: measurements and suites, which may look at anything and which nothing imports.
var aside = []string{"bench", "scripts", "internal/archtest", "internal/peers", "orchestrator/servertest", "clients/training/trainertest"}

func within(pkg, room string) bool { return pkg == room || strings.HasPrefix(pkg, room+"/") }

func inAny(pkg string, list []string) string {
	for _, room := range list {
		if within(pkg, room) {
			return room
		}
	}
	return ""
}

// place says on which floor and in which room a package is.
func place(pkg string) (floor int, room string, err error) {
	switch {
	case inAny(pkg, serving) != "":
		return top, inAny(pkg, serving), nil
	case within(pkg, "internal"):
		return base, pkg, nil
	case inAny(pkg, rooms) != "":
		return middle, inAny(pkg, rooms), nil
	case within(pkg, "orchestrator"):
		return conductor, "orchestrator", nil
	case pkg == "config":
		return top, pkg, nil
	case within(pkg, "cmd"):
		return command, "cmd", nil
	}
	return 0, "", fmt.Errorf("package %s has no place in the plan", pkg)
}

// judge says what is wrong with an import, "" when nothing is.
func judge(from, to string) string {
	if strings.HasPrefix(to, "github.com/sugarme/gotch") && !within(from, "internal/torch") {
		return "only internal/torch may touch gotch"
	}
	inside, ok := strings.CutPrefix(to, module)
	if !ok {
		return ""
	}
	if inAny(inside, aside) != "" {
		return "nothing imports what is no part of the product"
	}
	floor, room, err := place(from)
	if err != nil {
		return err.Error()
	}
	toFloor, toRoom, err := place(inside)
	switch {
	case err != nil:
		return err.Error()
	case within(inside, "cmd"):
		return "nothing imports a command"
	case room == toRoom || floor == base && toFloor == base:
		return ""
	case toRoom == "config" && floor != command:
		return "only cmd reads config"
	case toFloor == top && floor != command:
		return "only cmd serves"
	case floor == top && toFloor != base:
		return "it may import base packages only"
	case floor == middle && toFloor == middle:
		return "the middle rooms know nothing of each other"
	case toFloor > floor:
		return "arrows point down"
	}
	return ""
}

func TestArrowsPointOneWay(t *testing.T) {
	g := imports(t, root(t), false)
	for _, must := range append([]string{"orchestrator", "config", "cmd/recpie", "internal/torch", "internal/lmserver", "clients/vllm"}, rooms...) {
		if inAny(must, slices.Collect(maps.Keys(g))) == "" && !slices.ContainsFunc(slices.Collect(maps.Keys(g)), func(p string) bool { return within(p, must) }) {
			t.Errorf("no package %s was found: the test looks at the wrong place", must)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(g)) {
		if inAny(from, aside) != "" {
			continue
		}
		if _, _, err := place(from); err != nil {
			t.Error(err)
		}
		for _, to := range g[from] {
			if why := judge(from, to); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
	}
}

// Tests may build what they test out of base packages, but are held to the same walls.
func TestTestsKeepToTheirRooms(t *testing.T) {
	for from, all := range imports(t, root(t), true) {
		if inAny(from, aside) != "" {
			continue
		}
		for _, to := range all {
			if why := judge(from, to); why != "" {
				t.Errorf("a test of %s imports %s: %s", from, to, why)
			}
		}
	}
}

// What a library does is done in one place.
func TestLibrariesStayInTheirRooms(t *testing.T) {
	owners := map[string][]string{
		"github.com/spf13/cobra":            {"cmd"},
		"github.com/spf13/viper":            {"config"},
		"github.com/sashabaranov/go-openai": {"clients"},
		"github.com/cenkalti/backoff/v4":    {"clients"},
		"modernc.org/sqlite":                {"internal/store"},
		"github.com/vbauerster/mpb/v8":      {"internal/progress"},
		"net/http":                          {"clients", "internal/lmserver", "internal/web", "internal/wire", "internal/faultproxy"},
		"unsafe":                            {"internal/torch", "internal/wire/tinker/tinkerpb"}, // the second is generated
		"C":                                 {"internal/torch"},
	}
	for from, all := range imports(t, root(t), false) {
		if inAny(from, aside) != "" {
			continue
		}
		for _, to := range all {
			if rooms, owned := owners[to]; owned && inAny(from, rooms) == "" {
				t.Errorf("%s imports %s, which is for %v alone", from, to, rooms)
			}
		}
	}
}

// The rules can be broken.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/recpie", "recpie/orchestrator", true},
		{"cmd/recpie", "recpie/config", true},
		{"orchestrator", "recpie/recommender/encoder", true},
		{"recommender/bias", "recpie/recommender/feature", true},
		{"internal/lmserver", "recpie/internal/lm", true},
		{"internal/torch", "github.com/sugarme/gotch/libtch", true},
		{"prompts", "fmt", true},
		{"orchestrator", "recpie/internal/audit", true},
		{"recommender", "recpie/policy", false},
		{"clients/vllm", "recpie/adapters", false},
		{"prompts", "recpie/orchestrator", false},
		{"internal/lm", "recpie/prompts", false},
		{"internal/audit", "recpie/prompts", false},
		{"internal/lm", "recpie/internal/lmserver", false},
		{"orchestrator", "recpie/internal/lmserver", false},
		{"orchestrator", "recpie/config", false},
		{"orchestrator", "recpie/cmd/recpie", false},
		{"internal/lmserver", "recpie/policy", false},
		{"config", "recpie/recommender", false},
		{"recommender", "github.com/sugarme/gotch/ts", false},
		{"orchestrator", "recpie/internal/archtest", false},
		{"newroom", "recpie/internal/fault", false},
		{"orchestrator", "recpie/newroom", false},
	} {
		if why := judge(c.from, c.to); (why == "") != c.ok {
			t.Errorf("%s imports %s: %q", c.from, c.to, why)
		}
	}
}
