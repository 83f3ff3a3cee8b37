// Command torch compares the cost of single operations and of training steps in this house with PyTorch's eager mode,
// in one run on one thread: for every case the two take turns several times, and the best time of each counts. What is
// compared is the CPU time of the whole process, Go's garbage collector included, because the clock on the wall also
// measures what else the machine does. The command starts the Python side itself; see README.md.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
)

func main() {
	reexec.Ensure()
	python := flag.String("python", "", "Python with PyTorch (setup.sh installs one); empty: this side only")
	script := flag.String("peer", "bench/torch/peer.py", "the Python side")
	turns := flag.Int("turns", 3, "turns per case")
	seconds := flag.Float64("seconds", 0.3, "seconds per turn")
	network := flag.Bool("network", false, "compare the recommender's training and prediction instead")
	flag.Parse()
	if *network {
		if err := networks(os.Stdout, *python, "bench/torch/network.py", *turns); err != nil {
			fmt.Fprintln(os.Stderr, "bench/torch:", err)
			os.Exit(1)
		}
		return
	}
	if err := compare(os.Stdout, *python, *script, *turns, *seconds); err != nil {
		fmt.Fprintln(os.Stderr, "bench/torch:", err)
		os.Exit(1)
	}
}

func compare(w io.Writer, python, script string, turns int, seconds float64) error {
	torch.SetThreads(1)
	torch.Seed(1)
	b, err := newBench()
	if err != nil {
		return err
	}
	var other *peer
	version := "peer"
	if python != "" {
		if other, version, err = startPeer(python, script, seconds); err != nil {
			return err
		}
		defer other.stop()
	}
	fmt.Fprintf(w, "| case, CPU time, best of %d turns of %g s | here, µs | %s, µs | peer/here |\n|---|---|---|---|\n", turns, seconds, version)
	for _, c := range cases(b) {
		here, there := 0.0, 0.0
		for range turns {
			us, err := best(c, seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			here = smaller(here, us)
			if other != nil {
				if us, err = other.ask(c.name); err != nil {
					return fmt.Errorf("%s: peer: %w", c.name, err)
				}
				there = smaller(there, us)
			}
		}
		if other == nil {
			fmt.Fprintf(w, "| %s | %.1f | | |\n", c.name, here)
			continue
		}
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.2f |\n", c.name, here, there, there/here)
	}
	return nil
}

func smaller(a, b float64) float64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

// best repeats a case for some seconds, in growing numbers until one measurement takes 10 ms, and returns the
// smallest CPU time per repetition in microseconds.
func best(c measure, seconds float64) (us float64, err error) {
	if _, err := c.run(1); err != nil {
		return 0, err
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for n := 1; time.Now().Before(end); {
		took, err := c.run(n)
		if err != nil {
			return 0, err
		}
		us = smaller(us, float64(took.Nanoseconds())/1e3/float64(n))
		if took < 10*time.Millisecond {
			n *= 2
		}
	}
	return us, nil
}

// timed returns the CPU time that f takes.
func timed(f func() error) (time.Duration, error) {
	start, err := cpuTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	end, err := cpuTime()
	return end - start, err
}

// cpuTime is the time that all threads of this process have computed.
func cpuTime() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

// peer is the running Python side: it answers a case's name with its time.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPeer(python, script string, seconds float64) (*peer, string, error) {
	cmd := exec.Command(python, script, strconv.FormatFloat(seconds, 'g', -1, 64))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	p := &peer{cmd, in, bufio.NewReader(out)}
	version, err := p.out.ReadString('\n')
	if err != nil {
		p.stop()
		return nil, "", fmt.Errorf("the peer did not start: %w", err)
	}
	return p, strings.TrimSpace(version), nil
}

func (p *peer) ask(name string) (us float64, err error) {
	if _, err := io.WriteString(p.in, name+"\n"); err != nil {
		return 0, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

func (p *peer) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}
