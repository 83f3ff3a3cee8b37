// Package encoder turns sentences into vectors of length 1.
//
// An Encoder is a frozen BERT or DistilBERT on this machine, as sentence-transformers computes it (MiniLM: six layers, mean of the last states
// over the tokens). Weights and tokenizer are read from a Hugging Face folder. A Remote asks an embeddings endpoint instead.
//
// Each distinct text is encoded once: vectors are kept in an append-only file beside the digest of what made them, and are read from memory
// that is mapped onto it.
package encoder
