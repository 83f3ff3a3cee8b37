// Command readers compares how fast this house's readers of raw files are beside pandas and polars: rows a second of Amazon-like
// reviews as JSON lines and as CSV. It makes the files by seed in a temporary folder, and every reading is a process of its own; see
// README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
)

func main() {
	python := flag.String("python", "", "Python with the peers (setup.sh installs them); empty: this side only")
	script := flag.String("peer", "bench/readers/peer.py", "the Python side")
	turns := flag.Int("turns", 3, "turns per reader, the best counts")
	size := flag.Int64("mb", 1000, "size of each file, in millions of bytes")
	seed := flag.Uint64("seed", 1, "of the files")
	kind := flag.String("read", "", "read one file of this kind (json or csv): -file")
	path := flag.String("file", "", "with -read")
	workers := flag.Int("workers", 0, "with -read: parsers at work, 0 = one a core")
	profile := flag.String("cpuprofile", "", "with -read: write a CPU profile to this file")
	flag.Parse()
	var err error
	if *kind != "" {
		err = readOne(os.Stdout, *kind, *path, *profile, *workers)
	} else {
		err = compare(os.Stdout, *python, *script, *turns, *size*1e6, *seed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/readers:", err)
		os.Exit(1)
	}
}

// result is what one reading came to. The sums say that all readers saw the same.
type result struct {
	Rows    int     `json:"rows"`
	Ratings float64 `json:"ratings"` // their sum
	Text    int     `json:"text"`    // bytes of all reviews, 0 when they were not counted
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
	Peak    float64 `json:"peak_mb"`
}

// kinds are the files that are read, with the format that reads them here.
var kinds = []struct{ name, title, file, format, header string }{
	{"json", "JSON lines", "reviews.jsonl", "amazon-2023", ""},
	{"csv", "CSV", "interactions.csv", "csv", csvHeader},
}

var readers = []struct{ name, title string }{
	{"", "here"},
	{"polars-sums", "polars, streaming engine, nothing kept"},
	{"polars-streaming", "polars, streaming engine, into a frame"},
	{"polars", "polars, in-memory engine"},
	{"pandas", "pandas, chunks of 100,000 rows"},
}

func compare(w io.Writer, python, script string, turns int, size int64, seed uint64) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "recpie-bench-readers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(w, "| file of %d MB, best of %d turns | rows/s | here/its | CPU µs/row | its CPU/here | peak MB |\n|---|---|---|---|---|---|\n", size/1e6, turns)
	for _, k := range kinds {
		path := filepath.Join(dir, k.file)
		row := jsonRow
		if k.name == "csv" {
			row = csvRow
		}
		if err := write(path, k.header, row, seed, size); err != nil {
			return err
		}
		best := make([]result, len(readers))
		for range turns {
			for at, r := range readers {
				program, args := self, []string{"-read", k.name, "-file", path}
				if r.name != "" {
					if python == "" {
						continue
					}
					program, args = python, []string{script, r.name, k.name, path}
				}
				got, err := turn(program, args)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", r.title, k.title, err)
				}
				if here := best[0]; here.Rows > 0 && (got.Rows != here.Rows || got.Ratings != here.Ratings || got.Text != here.Text && got.Text > 0) {
					return fmt.Errorf("%s of %s: it read %d rows with %d bytes of text, not %d and %d", r.title, k.title, got.Rows, got.Text, here.Rows, here.Text)
				}
				best[at] = better(best[at], got)
			}
		}
		for at, r := range readers {
			if b, h := best[at], best[0]; b.Rows > 0 {
				n := float64(b.Rows)
				fmt.Fprintf(w, "| %s: %s | %.0fk | %.2f | %.2f | %.2f | %.0f |\n", k.title, r.title, n/b.Seconds/1e3, b.Seconds/h.Seconds, b.CPU/n*1e6, b.CPU/h.CPU, b.Peak)
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// better takes the least of what two turns of a reader took.
func better(a, b result) result {
	if a.Rows > 0 {
		b.Seconds, b.CPU, b.Peak = math.Min(a.Seconds, b.Seconds), math.Min(a.CPU, b.CPU), math.Min(a.Peak, b.Peak)
	}
	return b
}

// turn runs a reader to its end.
func turn(program string, args []string) (r result, err error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil || r.Rows == 0 {
		return r, fmt.Errorf("it answered %s: %w", strconv.Quote(string(out)), err)
	}
	return r, nil
}

// readOne reads a file as `recpie data import` does, and tells what it took.
func readOne(w io.Writer, kind, path, profile string, workers int) (err error) {
	format := ""
	for _, k := range kinds {
		if k.name == kind {
			format = k.format
		}
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	src, err := formats.Open(format, []string{path}, formats.Options{Workers: workers})
	if err != nil {
		return err
	}
	var r result
	start := time.Now()
	used, _, err := usage()
	if err != nil {
		return err
	}
	err = src.Events(context.Background(), func(events []dataset.Event) error {
		r.Rows += len(events)
		for k := range events {
			r.Ratings += events[k].Rating
			for _, f := range events[k].Outcomes {
				if f.Name == "review" {
					r.Text += len(f.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Seconds = time.Since(start).Seconds()
	cpu, peak, err := usage()
	if err != nil {
		return err
	}
	r.CPU, r.Peak = (cpu - used).Seconds(), peak
	return json.NewEncoder(w).Encode(r)
}

// usage is the time that all threads of this process have computed and the most memory it held, in MB.
func usage() (cpu time.Duration, peak float64, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), float64(u.Maxrss) / 1024, nil
}
