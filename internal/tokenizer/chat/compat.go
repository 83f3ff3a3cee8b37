package chat

import (
	"errors"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// list is a Python list as templates see it, where the engine's own slices differ: [-1] works on a list of one, and using the list
// as a text is an error. Python cannot add a list to a string either; printing parts would show a model their wiring.
type list []any

var errListAsText = errors.New("a list of content parts is used where the template wants text")

// GetItem is indexing by number.
func (l list) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(l[i]), true
}

// String stops the rendering: the engine has no way to return an error here, Render recovers it.
func (l list) String() string { panic(errListAsText) }

// whiteSpace is what Python's str.strip and str.split take off without an argument, in ASCII.
const whiteSpace = " \t\n\r\v\f\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

// strMethods returns the engine's string methods with the ones mended that templates use and that fail there: lstrip and rstrip
// without argument, and split, whose result must be a list.
func strMethods() *exec.MethodSet[string] {
	set := map[string]exec.Method[string]{}
	for _, name := range strings.Fields(`capitalize casefold center count encode endswith expandtabs find format index isalnum isalpha
		isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower partition
		removeprefix removesuffix replace rfind rindex rjust rpartition rsplit splitlines startswith swapcase title translate upper zfill`) {
		if m, ok := builtins.Methods.Str.Get(name); ok {
			set[name] = m
		}
	}
	set["strip"] = trim(strings.Trim)
	set["lstrip"] = trim(strings.TrimLeft)
	set["rstrip"] = trim(strings.TrimRight)
	set["split"] = func(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
		sep, limit := "", -1
		err := args.Take(exec.PositionalArgument("sep", exec.AsValue(""), exec.StringArgument(&sep)),
			exec.PositionalArgument("maxsplit", exec.AsValue(-1), exec.IntArgument(&limit)))
		switch {
		case err != nil:
			return nil, exec.ErrInvalidCall(err)
		case sep == "" && limit >= 0:
			return nil, exec.ErrInvalidCall(errors.New("split by white space with a limit is not supported"))
		case sep == "":
			return toList(strings.FieldsFunc(self, func(r rune) bool { return strings.ContainsRune(whiteSpace, r) })), nil
		case limit >= 0:
			return toList(strings.SplitN(self, sep, limit+1)), nil
		default:
			return toList(strings.Split(self, sep)), nil
		}
	}
	return exec.NewMethodSet(set)
}

func trim(fn func(s, cutset string) string) exec.Method[string] {
	return func(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
		cutset := whiteSpace
		if err := args.Take(exec.PositionalArgument("chars", exec.AsValue(whiteSpace), exec.StringArgument(&cutset))); err != nil {
			return nil, exec.ErrInvalidCall(err)
		}
		return fn(self, cutset), nil
	}
}

func toList(ss []string) list {
	l := make(list, len(ss))
	for i, s := range ss {
		l[i] = s
	}
	return l
}
