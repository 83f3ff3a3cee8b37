// Package importer turns a source of raw records into the one layout of imported sets (package layout), in memory that is bounded by the numbers
// of distinct users and items, whatever the number of records: about 25 bytes and the id for each user or item, one bit per record, and the parts
// at work. Everything else lies in nameless temporary files beside the result, which vanish with the process.
//
// Passes: the source is read once; static filters (properties, time, rating) drop records on the way, the rest is spooled. Of several records of a
// pair the last by (time, row) stays. The k-core is then taken on pairs of numbers, users are drawn, and the records that are left are dealt into
// ranges of users, each of which is sorted in memory and becomes one file. Neither the number of workers nor the order of a map decides a byte.
package importer
