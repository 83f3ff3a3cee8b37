// Package reexec restarts the program with the environment that libtorch's thread pool needs.
//
// OpenMP reads OMP_WAIT_POLICY when its library is loaded, before main. With the default, idle threads spin: on a busy
// machine two of them slow small operations down tenfold. glibc's allocator by default gives large tensors back to the kernel at once and asks it
// anew, which costs a page fault per 4 KiB each time: it is told to keep what it has, which took the page faults of writing long
// explanations to a third. The package itself does not load libtorch.
package reexec

import (
	"os"
	"syscall"
)

// settings are what Ensure sets. The allocator keeps freed memory: arenas beside the first hold 64 MiB at most and are given back whenever they
// are empty, whatever the thresholds say; and a threshold of mmap above 32 MiB is ignored. So there is one arena, which grows and stays, and no mmap.
var settings = [][2]string{
	{"OMP_WAIT_POLICY", "passive"}, {"MALLOC_ARENA_MAX", "1"}, {"MALLOC_MMAP_MAX_", "0"}, {"MALLOC_TRIM_THRESHOLD_", "68719476736"},
}

// Ensure sets OMP_WAIT_POLICY=passive and the allocator's variables, each unless it is set already, to whatever value, and replaces the process by
// the same program with the same arguments. With all of them set it does nothing. It is called first in main and in TestMain. When the program cannot
// be started again it goes on as it is: it works, only slower.
func Ensure() {
	exe, err := os.Executable()
	if err != nil {
		return
	}
	missing := false
	for _, v := range settings {
		if _, set := os.LookupEnv(v[0]); !set {
			missing = true
			if os.Setenv(v[0], v[1]) != nil {
				return
			}
		}
	}
	if missing {
		_ = syscall.Exec(exe, os.Args, os.Environ()) // returns only when it failed
	}
}
