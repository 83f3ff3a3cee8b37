package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"recpie/internal/fault"
)

// Sources are the layers above the defaults. Later ones win: preset, file, environment, flags.
type Sources struct {
	File  string         // YAML file, may be empty
	Env   []string       // as os.Environ()
	Flags map[string]any // key name (as inference.model) → value
}

// Presets lists the names that preset accepts.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for n := range presets {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Load resolves the settings. Errors name the file and line, the environment variable or the flag that is wrong, and what would be right.
func Load(src Sources) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	keys := Keys()
	for _, k := range keys {
		v.SetDefault(strings.Join(k.Path, delimiter), k.Default)
	}
	from := origins{}
	file, err := readFile(src.File, keys, from)
	if err != nil {
		return nil, err
	}
	env, err := environment(src.Env, keys, from)
	if err != nil {
		return nil, err
	}
	flags := map[string]any{}
	for name, val := range src.Flags {
		if !slices.ContainsFunc(keys, func(k Key) bool { return k.Name() == name }) {
			return nil, fault.Newf(fault.Fatal, "config", "unknown setting %s%s", name, suggest(name, names(keys)))
		}
		set(flags, strings.Split(name, "."), val)
		from[name] = "command line"
	}
	name := Default().Preset
	for _, layer := range []map[string]any{file, env, flags} {
		if p, ok := layer["preset"].(string); ok {
			name = p
		}
	}
	preset, ok := presets[name]
	if !ok {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "config", "%sunknown preset %q%s", from.of("preset"), name, suggest(name, Presets())), "presets: "+strings.Join(Presets(), ", "))
	}
	for _, layer := range []map[string]any{preset, file, env, flags} {
		if err := v.MergeConfigMap(layer); err != nil {
			return nil, fault.New(fault.Fatal, "config: merge", err)
		}
	}
	var c Config
	err = v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) {
		d.TagName = "key"
		d.ErrorUnused = true
		d.DecodeHook = mapstructure.StringToTimeDurationHookFunc()
	})
	if err != nil {
		return nil, fault.New(fault.Fatal, "config", err)
	}
	var errs []error
	for _, p := range c.validate() {
		errs = append(errs, fmt.Errorf("%s%s: %s", from.of(p.key), p.key, p.text))
	}
	if len(errs) > 0 {
		return nil, fault.New(fault.Fatal, "config", errors.Join(errs...))
	}
	return &c, nil
}

// origins says where the value of a key was given: file and line, the environment variable, or the command line.
type origins map[string]string

// of returns the beginning of a message about a key, "" for a value of a preset or a default. The fields of an endpoint that are not
// given stand for the endpoint.
func (o origins) of(key string) string {
	place, ok := o[key]
	if !ok && strings.Contains(key, "[") {
		place, ok = o[key[:strings.LastIndexByte(key, ']')+1]]
	}
	if !ok {
		return ""
	}
	return place + ": "
}

// readFile checks a YAML file against the known keys and returns its content as nested maps.
func readFile(path string, keys []Key, from origins) (map[string]any, error) {
	out := map[string]any{}
	if path == "" {
		return out, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "config", "no such file: %s", path), "give the path of a YAML file with -c, or leave -c out for the defaults")
	}
	if err != nil {
		return nil, fault.New(fault.Fatal, "config", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fault.Newf(fault.Fatal, "config", "%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return out, nil
	}
	c := checker{file: path, keys: keys, from: from}
	c.mapping(doc.Content[0], nil)
	if len(c.errs) > 0 {
		return nil, fault.New(fault.Fatal, "config", errors.Join(c.errs...))
	}
	if err := doc.Decode(&out); err != nil {
		return nil, fault.Newf(fault.Fatal, "config", "%s: %w", path, err)
	}
	return out, nil
}

// checker walks a YAML tree and collects every key that is unknown, doubled or of the wrong kind.
type checker struct {
	file string
	keys []Key
	from origins
	errs []error
}

func (c *checker) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", c.file, n.Line) }

func (c *checker) fail(n *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", c.at(n), fmt.Sprintf(format, args...)))
}

func (c *checker) mapping(n *yaml.Node, at []string) {
	if n.Kind != yaml.MappingNode {
		c.fail(n, "%s must hold key: value lines", place(at))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		path := append(slices.Clone(at), k.Value)
		name := strings.Join(path, ".")
		if seen[k.Value] {
			c.fail(k, "key %s appears twice", name)
		}
		seen[k.Value] = true
		c.from[name] = c.at(k)
		leaf := slices.IndexFunc(c.keys, func(x Key) bool { return x.Name() == name })
		inner := slices.ContainsFunc(c.keys, func(x Key) bool { return strings.HasPrefix(x.Name(), name+".") })
		switch {
		case inner:
			c.mapping(val, path)
		case leaf < 0:
			c.fail(k, "unknown key %s%s", name, suggest(name, names(c.keys)))
		case c.keys[leaf].Kind == "list":
			c.endpoints(val, name)
		default:
			c.scalar(val, c.keys[leaf])
		}
	}
}

func (c *checker) endpoints(n *yaml.Node, name string) {
	fields := map[string]reflect.Type{}
	var known []string
	for f := range reflect.TypeFor[Endpoint]().Fields() {
		known = append(known, f.Tag.Get("key"))
		fields[f.Tag.Get("key")] = f.Type
	}
	want := strings.Join(known, ", ")
	if n.Kind != yaml.SequenceNode {
		c.fail(n, "%s must be a list of entries with url and, where needed, others of %s", name, want)
		return
	}
	for j, e := range n.Content {
		at := fmt.Sprintf("%s[%d]", name, j)
		c.from[at] = c.at(e)
		if e.Kind != yaml.MappingNode {
			c.fail(e, "an entry of %s holds some of %s", name, want)
			continue
		}
		for i := 0; i+1 < len(e.Content); i += 2 {
			k, val := e.Content[i], e.Content[i+1]
			kind, ok := fields[k.Value]
			switch {
			case !ok:
				c.fail(k, "unknown key %s in %s%s", k.Value, name, suggest(k.Value, known))
				continue
			case c.from[at+"."+k.Value] != "":
				c.fail(k, "key %s appears twice in %s", k.Value, at)
			case val.Decode(reflect.New(kind).Interface()) != nil:
				c.fail(val, "%s.%s is not of kind %s", at, k.Value, kindOf(kind))
			}
			c.from[at+"."+k.Value] = c.at(k)
		}
	}
}

func (c *checker) scalar(n *yaml.Node, k Key) {
	if n.Kind != yaml.ScalarNode {
		c.fail(n, "%s must be a single value (%s)", k.Name(), k.Kind)
		return
	}
	if _, err := k.Parse(n.Value); err != nil {
		c.fail(n, "%s: %v", k.Name(), err)
	}
}

// environment reads the RECPIE_* variables that name settings. Others of that prefix (RECPIE_CACHE, RECPIE_DATA …) are left alone, but for slips
// of the keyboard.
func environment(env []string, keys []Key, from origins) (map[string]any, error) {
	out := map[string]any{}
	byName := map[string]Key{}
	for _, k := range keys {
		byName[k.Env()] = k
	}
	names := slices.Sorted(maps.Keys(byName))
	for _, e := range env {
		name, val, _ := strings.Cut(e, "=")
		k, ok := byName[name]
		if !ok {
			if near := nearest(name, names); strings.HasPrefix(name, "RECPIE_") && near != "" && distance(name, near) <= slip {
				return nil, fault.Newf(fault.Fatal, "config", "environment variable %s sets nothing, did you mean %s?", name, near)
			}
			continue
		}
		parsed, err := k.Parse(val)
		if err != nil {
			return nil, fault.Newf(fault.Fatal, "config", "environment variable %s: %w", name, err)
		}
		set(out, k.Path, parsed)
		from[k.Name()] = "environment variable " + name
	}
	return out, nil
}

// slip is how many letters of a variable may be wrong for it to be taken for a misspelt setting.
const slip = 2

// Parse turns text, as a file, the environment or a flag gives it, into a value of the key.
func (k Key) Parse(text string) (any, error) {
	var err error
	var val any = text
	switch k.Kind {
	case "int":
		var x int64
		err = yaml.Unmarshal([]byte(text), &x)
		val = x
	case "float":
		var x float64
		err = yaml.Unmarshal([]byte(text), &x)
		val = x
	case "bool":
		var x bool
		err = yaml.Unmarshal([]byte(text), &x)
		val = x
	case "duration":
		_, err = time.ParseDuration(text)
	}
	if k.Kind == "list" {
		return nil, fmt.Errorf("%s is a list, which only a file can give", k.Name())
	}
	if err != nil || (text == "" && k.Kind != "string") {
		return nil, fmt.Errorf("%q is not of kind %s", text, k.Kind)
	}
	return val, nil
}

func set(m map[string]any, path []string, val any) {
	for _, p := range path[:len(path)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	m[path[len(path)-1]] = val
}

// names lists the keys, and the sections that hold them.
func names(keys []Key) []string {
	var out []string
	for _, k := range keys {
		for n := 1; n <= len(k.Path); n++ {
			if name := strings.Join(k.Path[:n], "."); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func suggest(name string, candidates []string) string {
	if best := nearest(name, candidates); best != "" {
		return fmt.Sprintf(", did you mean %s?", best)
	}
	return ""
}

func place(at []string) string {
	if len(at) == 0 {
		return "the file"
	}
	return strings.Join(at, ".")
}

// YAML returns the settings as a file that Load reads back to the same Config, each key with its meaning as a comment.
func (c Config) YAML() ([]byte, error) {
	return yaml.Marshal(node(reflect.ValueOf(c)))
}

func node(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		val := &yaml.Node{}
		switch x := v.Field(i); {
		case f.Type.Kind() == reflect.Struct:
			val = node(x)
		case f.Type == reflect.TypeFor[time.Duration]():
			val = &yaml.Node{Kind: yaml.ScalarNode, Value: x.Interface().(time.Duration).String()}
		case f.Type.Kind() == reflect.Slice:
			val = &yaml.Node{Kind: yaml.SequenceNode}
			for j := range x.Len() {
				val.Content = append(val.Content, node(x.Index(j)))
			}
			if x.Len() == 0 {
				val.Style = yaml.FlowStyle
			}
		default:
			_ = val.Encode(x.Interface()) // plain scalars always encode
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.Tag.Get("key"), HeadComment: f.Tag.Get("doc")}, val)
	}
	return n
}
