// Command recpie trains a recommender together with the language model that explains its recommendations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"recpie/internal/fault"
	"recpie/internal/screen"
	"recpie/internal/torch/reexec"
)

// Exit codes, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1   // the work could not be done
	exitUsage       = 2   // the command line or the settings are wrong
	exitInterrupted = 130 // stopped by a signal; the same command continues
)

var errInterrupted = errors.New("interrupted")

func main() {
	reexec.Ensure()           // OMP_WAIT_POLICY must stand before libtorch's threads start
	log.SetOutput(io.Discard) // net/http writes what a broken server sent to it: untrusted text, which errors carry where it matters
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns its exit code. The first signal asks for a drained stop, the second ends at once.
func run(args []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		say("stopping: what is in flight is finished and stored; press Ctrl-C again to end at once")
		cancel(errInterrupted)
		<-signals
		os.Exit(exitInterrupted)
	}()
	cmd := newRoot()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(context.Cause(ctx), errInterrupted):
		if !errors.Is(err, errInterrupted) && !errors.Is(err, context.Canceled) { // something else went wrong on the way out
			say("recpie: " + err.Error())
		}
		say("interrupted: the same command continues where this one stopped")
		return exitInterrupted
	}
	say("recpie: " + err.Error())
	if hint := fault.HintOf(err); hint != "" {
		say("  " + hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// say writes a line to the person at the terminal.
func say(line string) { fmt.Fprintln(os.Stderr, screen.Text(line)) }
