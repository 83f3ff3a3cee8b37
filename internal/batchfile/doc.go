// Package batchfile reads what a batch of explanations is made of and writes what came of it, line by line with flat memory.
//
// Inputs are pairs or requests. Pairs come as JSON lines, CSV or Parquet with the fields user_id and item_id and, if wanted, custom_id
// and polarity (positive, negative or both). Requests are the lines of an OpenAI batch file: custom_id, method, url and body. Files may
// be compressed with gzip or zstd, whatever their name, and "-" is the standard input.
//
// A line that cannot be used is told with its position, field and remedy, and reading goes on with the next one. Check looks at
// everything before anything is sent: malformed lines, custom_ids and pairs that occur twice.
//
// Settle checks the fields of a request and puts its body into one form.
//
// Outputs are JSON lines or Parquet of explanations, a row per sentence or per pair, and the lines of an OpenAI batch output. A file is
// there whole or not at all (internal/durable), unless it is written live; the standard output is streamed. What is written is what was given, bit by bit: text
// that is not valid UTF-8 is an error, never replaced. Control characters that a terminal would act upon are escaped in JSON.
package batchfile

import "recpie/internal/fault"

// The formats of files. For inputs "" means: by the file's name, or else by its content.
const (
	JSONL   = "jsonl"   // an object per line; as input: pairs
	CSV     = "csv"     // RFC 4180 with a header; input only
	Parquet = "parquet" // as input: pairs
	OpenAI  = "openai"  // lines of an OpenAI batch file; for the output see WriteAnswers
)

// fatal returns an error that ends the work on a file, with what a person can do about it.
func fatal(hint, format string, args ...any) error {
	return fault.WithHint(fault.Newf(fault.Fatal, "batchfile", format, args...), hint)
}
