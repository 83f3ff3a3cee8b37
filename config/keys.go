package config

import (
	"reflect"
	"strings"
	"time"
)

// delimiter joins the parts of a key. viper's usual dot would split model names used as keys.
const delimiter = "::"

// Key describes one setting.
type Key struct {
	Path    []string // as inference, model
	Doc     string
	Kind    string // string, int, float, bool, duration or list
	Default any
}

// Name returns the key as files and messages show it, as inference.model.
func (k Key) Name() string { return strings.Join(k.Path, ".") }

// Env returns the environment variable that sets the key, as RECPIE_INFERENCE_MODEL.
func (k Key) Env() string { return "RECPIE_" + strings.ToUpper(strings.Join(k.Path, "_")) }

// Keys lists every setting with its default, in the order of Config.
func Keys() []Key {
	var out []Key
	walk(reflect.ValueOf(Default()), nil, &out)
	return out
}

func walk(v reflect.Value, at []string, out *[]Key) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		path := append(append([]string(nil), at...), f.Tag.Get("key"))
		if f.Type.Kind() == reflect.Struct {
			walk(v.Field(i), path, out)
			continue
		}
		*out = append(*out, Key{Path: path, Doc: f.Tag.Get("doc"), Kind: kindOf(f.Type), Default: v.Field(i).Interface()})
	}
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "int"
	case t.Kind() == reflect.Float64:
		return "float"
	case t.Kind() == reflect.Slice:
		return "list"
	default:
		return t.Kind().String()
	}
}

// nearest returns the candidate with the smallest edit distance to s, "" when none is close enough to be a slip of the keyboard.
func nearest(s string, candidates []string) string {
	best, at := "", len(s)/2+2
	for _, c := range candidates {
		if d := distance(s, c); d < at {
			best, at = c, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
