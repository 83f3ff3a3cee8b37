// Package tokenizer turns text into token ids and back, from the tokenizer.json files of the Hugging Face tokenizers library, with
// equal ids. It holds byte-level BPE (GPT-2, Llama 3, Qwen2 and what TrainBPE makes), BPE over characters with byte fallback (Llama 2,
// Mistral) and BERT's WordPiece; a file that asks for anything else is refused with the component's name.
//
// Text goes through the stages of the file: added tokens are cut out, the rest is normalised, cut into words by the pre-tokenizer,
// each word is split into pieces by the model, and the post-processor puts special tokens around the whole. Padding and truncation
// settings of the file are ignored: lengths are the caller's business.
package tokenizer
