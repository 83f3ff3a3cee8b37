//go:build !race

package batchfile

const raceEnabled = false
