// Package chat renders the Jinja chat templates of Hugging Face models.
package chat

// Message is one turn. Content is a string, or a []any of parts, each a map[string]any such as {"type": "text", "text": "…"}.
type Message struct {
	Role    string
	Content any
}

type Template struct{}

func Parse(src, bos, eos string) (*Template, error) { return nil, nil }
func (t *Template) Render(messages []Message, addGenerationPrompt bool) (string, error) {
	return "", nil
}
