package reexec

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMain lets this binary stand for a program that calls Ensure first.
func TestMain(m *testing.M) {
	if os.Getenv("REEXEC_TEST_CHILD") != "" {
		Ensure()
		fmt.Printf("%d %s %s %q\n", os.Getpid(), os.Getenv("OMP_WAIT_POLICY"), os.Getenv("MALLOC_ARENA_MAX"), os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

func TestEnsure(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"unset":      {nil, "passive 1"},
		"all set":    {[]string{"OMP_WAIT_POLICY=", "MALLOC_ARENA_MAX=2", "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=1"}, " 2"},
		"own arenas": {[]string{"MALLOC_ARENA_MAX=4"}, "passive 4"},
		"set":        {[]string{"OMP_WAIT_POLICY=active"}, "active 1"},
		"set empty":  {[]string{"OMP_WAIT_POLICY="}, " 1"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "a b", "--flag")
			cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
				return strings.HasPrefix(kv, "OMP_WAIT_POLICY=") || strings.HasPrefix(kv, "MALLOC_")
			})
			cmd.Env = append(cmd.Env, append(c.env, "REEXEC_TEST_CHILD=1")...)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			// The same process number: the program was replaced, not started beside.
			if want := fmt.Sprintf("%d %s [\"a b\" \"--flag\"]\n", cmd.Process.Pid, c.want); string(out) != want {
				t.Errorf("got %q, want %q", out, want)
			}
		})
	}
}
