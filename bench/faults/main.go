// Command faults measures what is left of a pool's throughput when things go wrong: a fifth of all requests spoiled in every way that
// passes, and one of four servers killed, hung or slow. Servers, proxies and clients run in this process and meet on loopback sockets.
// It prints a table, what it asks for beside what it found, and ends with 1 when a target is missed.
//
//	go run ./bench/faults
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"text/tabwriter"
	"time"
)

// The targets: requests per row and share of the clean throughput with a fifth of the requests spoiled; share of what the other servers
// can do, 10 s after one failed; time until a recovered server does half of its part again.
const (
	spoiledShare = 0.20
	mostRequests = 1.3
	leastSpoiled = 0.70
	leastOthers  = 0.70
	failureTime  = 10 * time.Second
	recoveryTime = 30 * time.Second
)

type settings struct {
	servers, capacity, callers, rows int
	service                          time.Duration
}

func main() {
	var s settings
	flag.IntVar(&s.servers, "servers", 4, "servers")
	flag.IntVar(&s.capacity, "capacity", 16, "requests that a server does at once; the others queue")
	flag.DurationVar(&s.service, "service", 200*time.Millisecond, "how long a request takes there")
	flag.IntVar(&s.callers, "callers", 96, "rows in flight")
	flag.IntVar(&s.rows, "rows", 4000, "rows with spoiled requests, and as many clean ones")
	flag.Parse()
	log.SetOutput(io.Discard) // net/http tells of each answer that nobody asked for
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench/faults:", err)
		os.Exit(1)
	}
}

var errMissed = errors.New("a target is missed")

// table prints findings and remembers whether one missed its target.
type table struct {
	w      *tabwriter.Writer
	missed bool
}

func (t *table) row(ok bool, what, found, wanted string) {
	verdict := "ok"
	if !ok {
		verdict, t.missed = "MISSED", true
	}
	fmt.Fprintf(t.w, "%s\t%s\t%s\t%s\n", what, found, wanted, verdict)
}

func run(s settings) error {
	before := open()
	t := &table{w: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Printf("%d servers of %d requests at once, %v each; %d rows in flight; %d CPUs\n\n", s.servers, s.capacity, s.service, s.callers, runtime.NumCPU())
	if err := spoiled(s, t); err != nil {
		return err
	}
	for _, f := range failures {
		if err := oneFails(s, t, f); err != nil {
			return err
		}
	}
	after := open()
	for deadline := time.Now().Add(5 * time.Second); after.more(before) && time.Now().Before(deadline); after = open() {
		time.Sleep(50 * time.Millisecond) // sockets close a moment later
	}
	t.row(!after.more(before), "left behind", fmt.Sprintf("%d goroutines, %d files", max(0, after.goroutines-before.goroutines), max(0, after.files-before.files-pollers)), "none")
	t.w.Flush()
	if t.missed {
		return errMissed
	}
	return nil
}

// held is what a process can leak.
type held struct{ goroutines, files int }

// pollers are the files that the runtime opens for its poller, once.
const pollers = 2

func open() held {
	d, _ := os.ReadDir("/proc/self/fd") // elsewhere there is none: files are not counted
	return held{runtime.NumGoroutine(), len(d)}
}

func (h held) more(before held) bool {
	return h.goroutines > before.goroutines || h.files > before.files+pollers
}
