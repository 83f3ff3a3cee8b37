package chat

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// golden is what transformers renders (scripts/reference/tokenizer_chat.py).
type golden struct {
	Templates map[string]string `json:"templates"`
	Chats     [][]Message       `json:"chats"`
	Cases     []struct {
		Template string  `json:"template"`
		Chat     int     `json:"chat"`
		Generate bool    `json:"generate"`
		Out      *string `json:"out"`
		Error    string  `json:"error"`
	} `json:"cases"`
}

func readGolden(t testing.TB) (g golden) {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func parse(t testing.TB, src string) *Template {
	t.Helper()
	tpl, err := Parse(src, "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	tpl.Now = func() time.Time { return time.Date(2024, 7, 26, 13, 5, 9, 0, time.UTC) }
	return tpl
}

func TestRenderEqualsTransformers(t *testing.T) {
	g := readGolden(t)
	if len(g.Cases) < 100 {
		t.Fatalf("only %d cases", len(g.Cases))
	}
	for _, c := range g.Cases {
		got, err := parse(t, g.Templates[c.Template]).Render(g.Chats[c.Chat], c.Generate)
		switch {
		case c.Template == "headers" && errors.Is(err, errListAsText):
			// Python's trim turns the list into its repr; showing that to a model is never wanted, so it is refused here.
		case c.Out != nil && err != nil:
			t.Errorf("%s chat %d: %v", c.Template, c.Chat, err)
		case c.Out != nil && got != *c.Out:
			t.Errorf("%s chat %d generate %v\n got %q\nwant %q", c.Template, c.Chat, c.Generate, got, *c.Out)
		case c.Out == nil && err == nil:
			t.Errorf("%s chat %d renders %q, Python says %s", c.Template, c.Chat, got, c.Error)
		}
	}
}

func TestRefusals(t *testing.T) {
	tpl := parse(t, "{{ messages[0].content }}")
	if _, err := tpl.Render(nil, true); err == nil {
		t.Error("an empty conversation was rendered")
	}
	if _, err := tpl.Render([]Message{{Role: "user", Content: 3}}, true); err == nil {
		t.Error("content that is no text was rendered")
	}
	_, err := parse(t, "{{ raise_exception('no ' + messages[0].role) }}").Render([]Message{{Role: "user", Content: ""}}, true)
	if err == nil || err.Error() != "chat template: no user" {
		t.Errorf("raise_exception gave %v", err)
	}
	for _, src := range []string{"{% if %}", "{{ x", "{% generation %}x{% endgeneration %}"} {
		if _, err := Parse(src, "", ""); err == nil {
			t.Errorf("%q was parsed", src)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error of several lines: %v", src, err)
		}
	}
	for _, doc := range []string{`[]`, `{"role": 1, "content": ""}`, `{"role": "user"}`, `{"role": "user", "content": [1]}`,
		`{"role": "user", "content": ` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`} {
		var m Message
		if err := json.Unmarshal([]byte(doc), &m); err == nil {
			t.Errorf("%.40s was read as a message", doc)
		}
	}
}

// A file that a template names must not be read.
func TestTemplateReadsNoFiles(t *testing.T) {
	for _, src := range []string{"{% include '/etc/hostname' %}", "{% include 'chat_test.go' %}", "{% extends '/etc/hostname' %}", "{% import '/etc/hostname' as x %}{{ x }}"} {
		tpl, err := Parse(src, "", "")
		if err != nil {
			continue
		}
		if out, err := tpl.Render([]Message{{Role: "user", Content: "x"}}, false); err == nil && out != "" {
			t.Errorf("%s gave %q", src, out)
		}
	}
}

func TestPartsMadeInGo(t *testing.T) {
	tpl := parse(t, readGolden(t).Templates["roles"]+"{{ messages[0] | tojson }}")
	for _, content := range []any{
		[]map[string]any{{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}},
		[]any{map[string]any{"type": "text", "text": "a"}, map[string]any{"type": "image"}, map[string]any{"type": "text", "text": "b"}},
	} {
		got, err := tpl.Render([]Message{{Role: "user", Content: content}}, true)
		want := `<|user|>ab<|end|><|assistant|>{"role": "user", "content": [{"text": "a", "type": "text"}, {"type": "image"}, {"text": "b", "type": "text"}]}`
		if err != nil || got != want {
			t.Errorf("got %s (%v)\nwant %s", got, err, want)
		}
	}
}

func TestRenderIsConcurrent(t *testing.T) {
	g := readGolden(t)
	tpl := parse(t, g.Templates["json"])
	want, err := tpl.Render(g.Chats[3], true)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if got, err := tpl.Render(g.Chats[3], true); err != nil || got != want {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestPythonFloat(t *testing.T) {
	for f, want := range map[float64]string{0: "0.0", 2.5: "2.5", 1e20: "1e+20", 1e16: "1e+16", 123456789012345: "123456789012345.0", 0.0001: "0.0001", 0.00001: "1e-05", -3: "-3.0"} {
		if got := pythonFloat(f); got != want {
			t.Errorf("%g is written %s, want %s", f, got, want)
		}
	}
}

// FuzzTemplate: whatever the template, Parse and Render return, and refuse rather than panic.
func FuzzTemplate(f *testing.F) {
	g := readGolden(f)
	for _, src := range g.Templates {
		f.Add(src, "hello")
	}
	f.Add("{% for m in messages %}{{ m.content[::-1] }}{% endfor %}", "abc")
	f.Add("{{ messages | tojson(indent=4) }}", "\x00\xff")
	f.Fuzz(func(t *testing.T, src, content string) {
		if strings.Contains(src, "range") || strings.Contains(src, "*") || len(src) > 2000 { // templates may compute for as long as they like
			t.Skip()
		}
		tpl, err := Parse(src, "<s>", "</s>")
		if err != nil {
			return
		}
		_, _ = tpl.Render([]Message{{Role: "user", Content: content}}, true)
	})
}
