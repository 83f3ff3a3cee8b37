// Package chat renders the Jinja chat templates of Hugging Face models to the text that transformers' apply_chat_template gives.
//
// A template comes with the model and may read nothing but the conversation: there is no file system behind it. It is not trusted
// further than that: a panic of the engine is an error, and output is bounded.
package chat

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"
	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// maxOutput bounds a rendered conversation in bytes.
const maxOutput = 64 << 20

// Template is a parsed chat template. It may be rendered concurrently.
type Template struct {
	src, bos, eos string
	tpl           *exec.Template
	// Now is the clock of strftime_now, which some templates print into the prompt; time.Now if nil. Set it before the first use.
	Now func() time.Time
}

// Parse reads a template; bos and eos are the spellings of the model's tokens, "" for none.
func Parse(src, bos, eos string) (t *Template, err error) {
	defer recovered("parse", &err)
	cfg := config.New()
	cfg.TrimBlocks, cfg.LeftStripBlocks = true, true // as transformers sets jinja2
	// jinja2 drops one newline at the end of the source; a template that ends in one must not.
	loader, err := loaders.NewMemoryLoader(map[string]string{"/chat": strings.TrimSuffix(src, "\n")})
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	if err := filters.Replace("tojson", toJSON); err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	methods := builtins.Methods
	methods.Str = strMethods()
	tpl, err := exec.NewTemplate("/chat", cfg, loader, &exec.Environment{
		Context:           exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables),
		Filters:           filters,
		Tests:             builtins.Tests,
		ControlStructures: builtins.ControlStructures,
		Methods:           methods,
	})
	if err != nil {
		// The engine quotes the whole source before its reason.
		msg := err.Error()
		if i := strings.LastIndex(msg, src); i >= 0 && src != "" {
			msg = strings.TrimLeft(msg[i+len(src):], "': ")
		}
		return nil, fmt.Errorf("chat template: parse: %s", msg)
	}
	return &Template{src: src, bos: bos, eos: eos, tpl: tpl}, nil
}

// Source returns the template's text, as tokenizer_config.json holds it.
func (t *Template) Source() string { return t.src }

// Render returns the text of a conversation, with the opening of the assistant's turn when addGenerationPrompt is set. An empty
// conversation, and whatever the template itself refuses by raise_exception, is an error.
func (t *Template) Render(messages []Message, addGenerationPrompt bool) (out string, err error) {
	defer recovered("render", &err)
	if len(messages) == 0 {
		return "", errors.New("chat template: the conversation is empty")
	}
	keys := keyOrder{}
	turns := make(list, len(messages))
	for i, m := range messages {
		if turns[i], err = m.value(keys); err != nil {
			return "", fmt.Errorf("chat template: message %d: %w", i, err)
		}
	}
	now := t.Now
	if now == nil {
		now = time.Now
	}
	var raised error
	w := &bounded{}
	err = t.tpl.Execute(w, exec.NewContext(map[string]any{
		"messages":              turns,
		"add_generation_prompt": addGenerationPrompt,
		"bos_token":             t.bos,
		"eos_token":             t.eos,
		"tools":                 nil,
		"documents":             nil,
		"raise_exception": func(msg string) (string, error) {
			raised = fmt.Errorf("chat template: %s", msg)
			return "", raised
		},
		"strftime_now": func(format string) string { return strftime.Format(format, now()) },
		orderKey:       keys,
	}))
	switch {
	case raised != nil: // the engine wraps it in many lines of its own
		return "", raised
	case err != nil:
		return "", fmt.Errorf("chat template: %w", err)
	}
	return w.b.String(), nil
}

// recovered turns a panic of the template engine into an error.
func recovered(op string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("chat template: %s: %v", op, r)
		if cause, ok := r.(error); ok {
			*err = fmt.Errorf("chat template: %s: %w", op, cause)
		}
	}
}

// bounded collects output up to maxOutput.
type bounded struct{ b bytes.Buffer }

func (w *bounded) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("output is over %d bytes", maxOutput)
	}
	return w.b.Write(p)
}
