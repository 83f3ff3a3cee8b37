// Package reexec restarts the program with the environment that libtorch's thread pool needs.
//
// OpenMP reads OMP_WAIT_POLICY when its library is loaded, before main. With the default, idle threads spin: on a busy
// machine two of them slow small operations down tenfold. glibc's allocator by default asks the kernel anew for every large tensor, which
// costs a page fault per 4 KiB each time: it is told to keep what it has, a ninth less CPU time in the warm-up of a language model. The
// package itself does not load libtorch.
package reexec

import (
	"os"
	"syscall"
)

const variable = "OMP_WAIT_POLICY"

// allocator names the thresholds above which freed memory goes back to the kernel. glibc caps the first at 32 MiB and then leaves it alone.
var allocator = []string{"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}

// Ensure sets OMP_WAIT_POLICY=passive and the allocator's thresholds and replaces the process by the same program with the same arguments, unless the
// variable is set already, to whatever value. It is called first in main and in TestMain. When the program cannot be
// started again it goes on as it is: it works, only slower.
func Ensure() {
	if _, set := os.LookupEnv(variable); set {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		return
	}
	if os.Setenv(variable, "passive") != nil {
		return
	}
	for _, name := range allocator {
		if _, set := os.LookupEnv(name); !set {
			_ = os.Setenv(name, "1073741824") // only slower without
		}
	}
	_ = syscall.Exec(exe, os.Args, os.Environ()) // returns only when it failed
}
