package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// parsePost returns the special tokens that the post-processor puts before and after a text.
func (t *Tokenizer) parsePost(raw json.RawMessage, depth int) (prefix, suffix []int32, err error) {
	typ, err := kind(raw)
	if err != nil || typ == "" {
		return nil, nil, err
	}
	switch typ {
	case "ByteLevel": // offsets only
		return nil, nil, nil
	case "Sequence":
		var c struct {
			Processors []json.RawMessage `json:"processors"`
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, nil, fmt.Errorf("post_processor Sequence: %w", err)
		}
		if depth == 0 {
			return nil, nil, errors.New("post_processor: sequences nested too deeply")
		}
		for _, r := range c.Processors {
			p, s, err := t.parsePost(r, depth-1)
			if err != nil {
				return nil, nil, err
			}
			prefix, suffix = append(p, prefix...), append(suffix, s...)
		}
		return prefix, suffix, nil
	case "BertProcessing", "RobertaProcessing":
		var c struct {
			Sep, Cls []any
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: %w", typ, err)
		}
		cls, err := t.pairID(c.Cls)
		if err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: cls: %w", typ, err)
		}
		sep, err := t.pairID(c.Sep)
		if err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: sep: %w", typ, err)
		}
		return []int32{cls}, []int32{sep}, nil
	case "TemplateProcessing":
		return t.parseTemplate(raw)
	default:
		return nil, nil, fmt.Errorf("post_processor %s is not supported", typ)
	}
}

// pairID reads a pair such as ["[CLS]", 101].
func (t *Tokenizer) pairID(pair []any) (int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok {
			return t.checkID(int64(id))
		}
	}
	return 0, fmt.Errorf("%v is not a token and its id", pair)
}

func (t *Tokenizer) checkID(id int64) (int32, error) {
	if id < 0 || id >= int64(len(t.tokens)) {
		return 0, fmt.Errorf("id %d is not in the vocabulary", id)
	}
	return int32(id), nil
}

// parseTemplate reads the form for single texts: special tokens around exactly one "A".
func (t *Tokenizer) parseTemplate(raw json.RawMessage) (prefix, suffix []int32, err error) {
	var c struct {
		Single []struct {
			SpecialToken, Sequence *struct {
				ID string `json:"id"`
			}
		} `json:"single"`
		SpecialTokens map[string]struct {
			IDs []int64 `json:"ids"`
		} `json:"special_tokens"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("post_processor TemplateProcessing: %w", err)
	}
	seen := false
	for _, p := range c.Single {
		switch {
		case p.Sequence != nil && p.Sequence.ID == "A" && !seen:
			seen = true
		case p.SpecialToken != nil:
			for _, n := range c.SpecialTokens[p.SpecialToken.ID].IDs {
				id, err := t.checkID(n)
				if err != nil {
					return nil, nil, fmt.Errorf("post_processor TemplateProcessing: %w", err)
				}
				if seen {
					suffix = append(suffix, id)
				} else {
					prefix = append(prefix, id)
				}
			}
		default:
			return nil, nil, errors.New("post_processor TemplateProcessing: a part is neither a special token nor the first A")
		}
	}
	if !seen {
		return nil, nil, errors.New("post_processor TemplateProcessing: no A")
	}
	return prefix, suffix, nil
}
