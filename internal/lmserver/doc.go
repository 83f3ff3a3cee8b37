// Package lmserver serves a language model of internal/lm over HTTP, on one port, in two dialects.
//
//   - The inference dialect is vLLM's OpenAI-compatible API as version 0.32.0 answers it: chat and completions with soft prompts
//     (prompt_embeds), token ids, log-probabilities, chats streamed token by token, embeddings (the normalised mean of the last hidden
//     states), run-time LoRA adapters, vLLM's metrics, the same error forms and status codes.
//   - The training dialect is the Tinker REST API (JSON, and protobuf for its three large payloads) with the extension
//     prompt_embeds.v1: soft-prompt rows go in, their gradients come back.
//
// The server is an attack surface even on loopback, because any web page can reach it, so: adapters load only from below one folder
// and only by regular files; the Host header must name the loopback; POST bodies must declare their type; bodies, rows and queues
// are bounded; off loopback it refuses to start without a key; no path of the machine appears in an error unless the caller sent it.
//
// Where it is stricter than vLLM, on purpose: non-finite soft-prompt rows are refused (vLLM accepts them and poisons its cache),
// undersized adapters are refused, and /tokenize needs the key when there is one.
package lmserver
