// Package vllm is the client of an inference server that speaks vLLM's API: chat with soft prompts in mid-template, completions,
// prompt scoring, tokenizing, run-time adapters. Answers are checked before they are used: the number of choices, their indexes,
// the finish reasons, one finite log-probability per token id. Nothing is ever padded or guessed.
//
// Requests go through one typed layer, because go-openai drops explicit zeros (temperature 0, max_tokens 0), reads a null
// log-probability as 0 and knows neither prompt_embeds nor token ids. go-openai carries what it can express: the plain text chat of
// any OpenAI-compatible server, and embeddings. Both share one transport with its key, limits and error classes.
package vllm
