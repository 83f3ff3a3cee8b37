package chat

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// orderKey is where a rendering keeps its keyOrder; templates cannot spell a name with a space.
const orderKey = "key order"

// toJSON is the tojson filter as transformers defines it: json.dumps with Python's separators, no HTML escapes, keys in the order
// in which they were written, and indent if asked for.
func toJSON(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	p := printer{}
	if v, ok := e.Environment.Context.Get(orderKey); ok {
		p.keys, _ = v.(keyOrder)
	}
	if v, ok := params.KwArgs["indent"]; ok && v.IsInteger() {
		p.indent, p.pretty = max(0, min(v.Integer(), 16)), true
	}
	if err := p.value(reflect.ValueOf(in.Interface()), 0); err != nil {
		return exec.AsValue(exec.ErrInvalidCall(err))
	}
	return exec.AsSafeValue(p.sb.String())
}

type printer struct {
	sb     strings.Builder
	keys   keyOrder
	indent int
	pretty bool
}

func (p *printer) newline(depth int) {
	if p.pretty {
		p.sb.WriteByte('\n')
		p.sb.WriteString(strings.Repeat(" ", p.indent*depth))
	}
}

func (p *printer) comma(depth int) {
	if p.pretty {
		p.sb.WriteByte(',')
		p.newline(depth)
	} else {
		p.sb.WriteString(", ")
	}
}

func (p *printer) value(v reflect.Value, depth int) error {
	if depth > 2*maxDepth {
		return fmt.Errorf("value is nested too deeply")
	}
	for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) {
		if inner, ok := v.Interface().(*exec.Value); ok {
			v = reflect.ValueOf(inner.Interface())
			continue
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		p.sb.WriteString("null")
		return nil
	}
	switch v.Kind() {
	case reflect.Bool:
		p.sb.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.String:
		p.quote(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.sb.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.sb.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		p.sb.WriteString(pythonFloat(v.Float()))
	case reflect.Slice, reflect.Array:
		return p.list(v, depth)
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return fmt.Errorf("%s has no JSON form here", v.Type())
		}
		return p.object(v, depth)
	case reflect.Struct:
		if d, ok := v.Interface().(exec.Dict); ok { // a dict literal of the template
			return p.dict(d, depth)
		}
		fallthrough
	default:
		return fmt.Errorf("%s has no JSON form", v.Type())
	}
	return nil
}

func (p *printer) list(v reflect.Value, depth int) error {
	if v.Len() == 0 {
		p.sb.WriteString("[]")
		return nil
	}
	p.sb.WriteByte('[')
	p.newline(depth + 1)
	for i := range v.Len() {
		if i > 0 {
			p.comma(depth + 1)
		}
		if err := p.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	p.newline(depth)
	p.sb.WriteByte(']')
	return nil
}

func (p *printer) object(v reflect.Value, depth int) error {
	keys, ok := p.keys[v.Pointer()]
	if !ok || len(keys) != v.Len() { // made in Go: sorted, so that it is the same every time
		m := map[string]bool{}
		for _, k := range v.MapKeys() {
			m[k.String()] = true
		}
		keys = slices.Sorted(maps.Keys(m))
	}
	return p.pairs(len(keys), depth, func(i int) (string, reflect.Value) {
		return keys[i], v.MapIndex(reflect.ValueOf(keys[i]).Convert(v.Type().Key()))
	})
}

func (p *printer) dict(d exec.Dict, depth int) error {
	return p.pairs(len(d.Pairs), depth, func(i int) (string, reflect.Value) {
		return d.Pairs[i].Key.String(), reflect.ValueOf(d.Pairs[i].Value.Interface())
	})
}

func (p *printer) pairs(n, depth int, at func(int) (string, reflect.Value)) error {
	if n == 0 {
		p.sb.WriteString("{}")
		return nil
	}
	p.sb.WriteByte('{')
	p.newline(depth + 1)
	for i := range n {
		if i > 0 {
			p.comma(depth + 1)
		}
		k, v := at(i)
		p.quote(k)
		p.sb.WriteString(": ")
		if err := p.value(v, depth+1); err != nil {
			return err
		}
	}
	p.newline(depth)
	p.sb.WriteByte('}')
	return nil
}

// quote writes a JSON string with the escapes of Python's json.dumps(ensure_ascii=False) and no others.
func (p *printer) quote(s string) {
	p.sb.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			p.sb.WriteByte('\\')
			p.sb.WriteRune(r)
		case '\n':
			p.sb.WriteString(`\n`)
		case '\r':
			p.sb.WriteString(`\r`)
		case '\t':
			p.sb.WriteString(`\t`)
		case '\b':
			p.sb.WriteString(`\b`)
		case '\f':
			p.sb.WriteString(`\f`)
		default:
			if r < 0x20 {
				fmt.Fprintf(&p.sb, `\u%04x`, r)
			} else {
				p.sb.WriteRune(r)
			}
		}
	}
	p.sb.WriteByte('"')
}

// pythonFloat is Python's repr: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
func pythonFloat(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case a != 0 && (a < 1e-4 || a >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	default:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
}
