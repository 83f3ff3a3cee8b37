package lm

// The special tokens of our models, in id order from 0. They frame the turns of a conversation; <|end|> ends each turn and every
// generation.
const (
	TokenPad       = "<|pad|>"
	TokenBOS       = "<|bos|>"
	TokenEOS       = "<|eos|>"
	TokenSystem    = "<|system|>"
	TokenUser      = "<|user|>"
	TokenAssistant = "<|assistant|>"
	TokenEnd       = "<|end|>"
)

// SpecialTokens returns them in id order, as tokenizer.TrainBPE wants them.
func SpecialTokens() []string {
	return []string{TokenPad, TokenBOS, TokenEOS, TokenSystem, TokenUser, TokenAssistant, TokenEnd}
}

// DefaultChatTemplate is the chat template of our models: <|bos|>, then each turn as <|role|>content<|end|>, then <|assistant|> when
// an answer is wanted. Content of parts is the concatenation of their texts; a part with rows of embeddings stands where it is.
const DefaultChatTemplate = `{{ bos_token }}{% for message in messages %}` +
	`{% if message['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}` +
	`{{ '<|' + message['role'] + '|>' }}` +
	`{% if message['content'] is string %}{{ message['content'] }}` +
	`{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}` +
	`{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}`
