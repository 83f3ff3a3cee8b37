package transport

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"recpie/internal/fault"
)

// Secret is an API key. Every way of printing or marshalling it gives "[redacted]" ("" when it is empty); only Reveal returns it.
// It comes from an environment variable or a file, never from a flag or a configuration value.
type Secret struct{ value string }

const redacted = "[redacted]"

// SecretFromEnv reads the variable of the given name. An empty name means that no key is wanted; a named but unset variable is an error.
func SecretFromEnv(name string) (Secret, error) {
	if name == "" {
		return Secret{}, nil
	}
	v := strings.TrimSpace(os.Getenv(name))
	if v == "" {
		return Secret{}, fault.WithHint(fault.Newf(fault.Fatal, "api key", "environment variable %s is not set", name), "set it to the API key, or remove its name from the configuration")
	}
	return checkSecret(v, "environment variable "+name)
}

// SecretFromFile reads a key from a file of at most 16 KiB; space around it is dropped.
func SecretFromFile(path string) (Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return Secret{}, fault.New(fault.Fatal, "api key", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return Secret{}, fault.New(fault.Fatal, "api key", err)
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return Secret{}, fault.Newf(fault.Fatal, "api key", "file %s is empty", path)
	}
	return checkSecret(v, "file "+path)
}

func checkSecret(v, where string) (Secret, error) {
	for _, r := range v {
		if r <= ' ' || r > '~' {
			return Secret{}, fault.Newf(fault.Fatal, "api key", "%s holds a character that cannot stand in a header", where)
		}
	}
	return Secret{v}, nil
}

// Reveal returns the key itself, for the one header that carries it.
func (s Secret) Reveal() string { return s.value }

// Empty tells whether there is no key.
func (s Secret) Empty() bool { return s.value == "" }

// String hides the key.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// GoString hides the key from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the key from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the key from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the key from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
