//go:build !race

package batchfile

const raceEnabled = false // the race detector makes everything ten times slower: less is read
