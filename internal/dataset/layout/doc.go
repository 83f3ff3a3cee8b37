// Package layout is the one form in which imported data sets lie on disk: a folder with
//
//	dataset.yaml                what the set is about; may be edited
//	interactions-00000.parquet  rated records in the order (user, time, row), a user's never divided between two files
//	items.parquet               items in the order of their ids
//	quarantine.jsonl            the rows that could not be read, one JSON object a line
//	manifest.json               where the set comes from, what was left out, size and SHA-256 of every file above but dataset.yaml
//
// Columns of interactions: user_id, item_id (strings), rating (double), timestamp (int64, Unix seconds, null when unknown), source_row (int64, ordinal
// of the row in the raw files, from 0), and one column of strings per outcome, null when empty. Columns of items: item_id, title, year, categories
// (repeated), profile, price, and one column of strings per further input. No pair of user and item occurs twice.
//
// The manifest is written last, into a folder that appears whole: a folder with a manifest was imported to its end.
package layout
