// Package openai holds the JSON of the inference API as vLLM speaks it: the OpenAI routes with vLLM's extensions (soft prompts, token ids,
// explicit echo scoring), the runtime LoRA routes, the tokenizer routes and the four forms of an error. Clients and the embedded server share it.
//
// Requests use pointers for every optional number, so that an absent field and an explicit 0 stay different: temperature 0 and
// max_tokens 0 are sent, a nil pointer is not. Responses spell every field out, null included, as the real server does.
package openai

// Ptr returns a pointer to v, for the optional fields of requests.
func Ptr[T any](v T) *T { return &v }
