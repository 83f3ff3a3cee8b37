package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ending are calls that end the process or a goroutine of the caller's, where an error would do.
var ending = []string{
	"log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "log.Panicln", "os.Exit", "syscall.Exit", "runtime.Goexit",
	// functions of gotch's wrapper that call log.Fatal or write beyond their memory
	"lib.AtoSetLearningRates", "lib.AtoGetLearningRates", "lib.AtSaveMulti", "lib.NewPointerStore",
}

// endings lists the calls of a file that end the process, as "os.Exit", and those of panic.
func endings(f *ast.File) (found []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			if fun.Name == "panic" {
				found = append(found, "panic")
			}
		case *ast.SelectorExpr:
			if x, ok := fun.X.(*ast.Ident); ok && slices.Contains(ending, x.Name+"."+fun.Sel.Name) {
				found = append(found, x.Name+"."+fun.Sel.Name)
			}
		}
		return true
	})
	return found
}

// Errors are returned: the process ends in main alone, and nothing panics but for a slip in the program itself.
func TestNothingEndsTheProcess(t *testing.T) {
	allowed := map[string][]string{
		"cmd/recpie/main.go":                {"os.Exit", "os.Exit"},
		"cmd/recpie/root.go":                {"panic"}, // a flag for a setting that does not exist
		"internal/torch/scope.go":           {"panic"}, // a panic of the caller's goes on
		"internal/tokenizer/chat/compat.go": {"panic"}, // recovered where templates are rendered: the library has no other way out
		"internal/wire/tinker/gen/main.go":  {"os.Exit", "os.Exit"},
	}
	top := root(t)
	seen := 0
	err := filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "runs" || name == "bench") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(rel, ".pb.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen++
		if found := endings(f); !slices.Equal(found, allowed[rel]) {
			t.Errorf("%s calls %v, allowed are %v", rel, found, allowed[rel])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("%d files were looked at", seen)
	}
}

func TestEndingsAreFound(t *testing.T) {
	const text = "package p\nfunc f() { log.Fatalf(\"x\"); defer os.Exit(1); go func() { panic(1) }(); lib.AtSaveMulti(nil); s.Exit() }"
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got := endings(f); !slices.Equal(got, []string{"log.Fatalf", "os.Exit", "panic", "lib.AtSaveMulti"}) {
		t.Errorf("found %v", got)
	}
}
