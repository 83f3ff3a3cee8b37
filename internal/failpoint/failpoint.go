// Package failpoint lets a test kill the process at a named place, to prove that a crash there loses nothing.
//
// RECPIE_FAILPOINT=NAME dies by SIGKILL at the first passage of NAME, NAME:3 at the third. Unset, a passage costs one
// comparison. Names are listed by each caller beside the invariant that the place tests.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var (
	target string
	left   atomic.Int64
)

func init() {
	name, count, ok := strings.Cut(os.Getenv("RECPIE_FAILPOINT"), ":")
	target = name
	n := 1
	if ok {
		if v, err := strconv.Atoi(count); err == nil && v > 0 {
			n = v
		}
	}
	left.Store(int64(n))
}

// Hit marks a passage of the place called name.
func Hit(name string) {
	if target == "" || target != name || left.Add(-1) != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal may take a moment; nothing more may run
}
