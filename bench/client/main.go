// Command client compares what a request costs in this house's clients with what it costs elsewhere: requests per second and CPU time
// per request against a local server that answers at once. The server and every client run in a process of their own, one client at a
// time, and take turns; see README.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"recpie/bench/child"
)

func main() {
	python := flag.String("python", "", "Python with the peers (setup.sh installs them); empty: this side only")
	script := flag.String("peer", "bench/client/peer.py", "the Python side")
	turns := flag.Int("turns", 2, "turns per client")
	seconds := flag.Float64("seconds", 5, "seconds per turn, after one to warm up")
	concurrency := flag.Int("concurrency", 64, "requests in flight")
	serve := flag.Bool("serve", false, "be the server")
	client := flag.String("client", "", "be this client, of -url")
	url := flag.String("url", "", "the server's address")
	profile := flag.String("cpuprofile", "", "with -client: write a CPU profile of the measured time to this file")
	flag.Parse()
	var err error
	switch {
	case *serve:
		err = serveInstantly(os.Stdout)
	case *client != "":
		err = beClient(os.Stdout, *client, *url, *profile, *seconds, *concurrency)
	default:
		err = compare(os.Stdout, *python, *script, *turns, *seconds, *concurrency)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/client:", err)
		os.Exit(1)
	}
}

// result is what one turn of one client came to.
type result struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_seconds"`
}

// contender is one client; peers are Python's.
type contender struct {
	name, title string
	peer        bool
}

var contenders = []contender{
	{"bare", "bare net/http loop (Go)", false},
	{"vllm", "clients/vllm", false},
	{"pool", "clients/pool over clients/vllm", false},
	{"pool64", "the same with a fixed limit", false},
	{"aiohttp", "bare aiohttp loop (Python)", true},
	{"openai", "official async client (Python)", true},
	{"litellm", "LiteLLM (Python)", true},
}

func compare(w io.Writer, python, script string, turns int, seconds float64, concurrency int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	url, stop, err := child.Serve("-serve")
	if err != nil {
		return err
	}
	defer stop()
	rate, cpu := map[string]float64{}, map[string]float64{}
	for range turns {
		for _, c := range contenders {
			if c.peer && python == "" {
				continue
			}
			program, args := self, []string{"-client", c.name, "-url", url, "-seconds", number(seconds), "-concurrency", strconv.Itoa(concurrency)}
			if c.peer {
				program, args = python, []string{script, c.name, url, number(seconds), strconv.Itoa(concurrency)}
			}
			r, err := turn(program, args)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			rate[c.name] = max(rate[c.name], float64(r.Requests)/r.Seconds)
			if us := r.CPU / float64(r.Requests) * 1e6; cpu[c.name] == 0 || us < cpu[c.name] {
				cpu[c.name] = us
			}
		}
	}
	fmt.Fprintf(w, "| client, best of %d turns of %g s, %d in flight | requests/s | CPU per request, µs | requests/s of clients/pool to its | its CPU to that of clients/pool |\n|---|---|---|---|---|\n", turns, seconds, concurrency)
	for _, c := range contenders {
		if rate[c.name] > 0 {
			fmt.Fprintf(w, "| %s | %.0f | %.0f | %.2f | %.2f |\n", c.title, rate[c.name], cpu[c.name], rate["pool"]/rate[c.name], cpu[c.name]/cpu["pool"])
		}
	}
	return nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// turn runs a client to its end and reads its result.
func turn(program string, args []string) (result, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || r.Requests == 0 || r.Seconds == 0 {
		return result{}, fmt.Errorf("it answered %q: %w", out, err)
	}
	return r, nil
}

// cpuTime is the time that all threads of this process have computed.
func cpuTime() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}
