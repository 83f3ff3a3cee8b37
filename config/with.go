package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"recpie/internal/fault"
)

// With returns the settings with some changed, given as text by name. The values are checked as those of a file are.
func (c Config) With(values map[string]string) (*Config, error) {
	c.Inference.Endpoints = slices.Clone(c.Inference.Endpoints)
	keys := Keys()
	for name, text := range values {
		at := slices.IndexFunc(keys, func(k Key) bool { return k.Name() == name })
		if at < 0 {
			return nil, fault.Newf(fault.Fatal, "config", "unknown setting %s%s", name, suggest(name, names(keys)))
		}
		val, err := keys[at].Parse(text)
		if err != nil {
			return nil, fault.Newf(fault.Fatal, "config", "%s: %w", name, err)
		}
		field := c.field(keys[at].Path)
		if keys[at].Kind == "duration" {
			val, _ = time.ParseDuration(text) // Parse has checked it
		}
		v := reflect.ValueOf(val)
		if !v.CanConvert(field.Type()) {
			return nil, fault.Newf(fault.Fatal, "config", "%s cannot be changed so", name)
		}
		field.Set(v.Convert(field.Type()))
	}
	var errs []error
	for _, p := range c.validate() {
		errs = append(errs, fmt.Errorf("%s: %s", p.key, p.text))
	}
	if len(errs) > 0 {
		return nil, fault.New(fault.Fatal, "config", errors.Join(errs...))
	}
	return &c, nil
}

// field returns the field of a key.
func (c *Config) field(path []string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for _, part := range path {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("key") == part {
				v = v.Field(i)
				break
			}
		}
	}
	return v
}

// Text returns the value of a setting as With takes it, "" for a name that is none.
func (c Config) Text(name string) string {
	for _, k := range Keys() {
		if k.Name() == name && k.Kind != "list" {
			return fmt.Sprint(c.field(k.Path).Interface())
		}
	}
	return ""
}
