// Package encoder turns sentences into vectors with a frozen BERT-style sentence encoder (MiniLM: six layers, mean of the last
// states over the tokens, scaled to length 1), as sentence-transformers does. Weights and tokenizer are read from a Hugging Face
// folder. Each distinct text is encoded once: vectors are kept in an append-only file beside the digest of the weights.
package encoder
