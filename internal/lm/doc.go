// Package lm is the embedded language model: the GPT-2 and Llama families in the Hugging Face layout (Llama, Vicuna, Qwen2, Mistral, Mixtral),
// batched sampling with a key/value cache and shared prefixes, soft prompts at any place of a prompt, several LoRA adapters over one set of
// frozen weights, and the training step of a LoRA adapter (cross entropy, importance sampling, PPO …) with gradients for the soft prompts.
//
// Unless an adapter asks for it there is no dropout anywhere: the probabilities that a Trainer sees are those that the Engine sampled from.
package lm
