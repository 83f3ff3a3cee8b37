package importer

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"recpie/internal/dataset"
)

// childOut makes the test binary import a crowd into the folder that it names, and nothing else.
const childOut = "RECPIE_TEST_IMPORT_OUT"

func TestMain(m *testing.M) {
	if out := os.Getenv(childOut); out != "" {
		o := crowd(3000).options(filepath.Dir(out))
		o.Out = out
		if _, err := Run(context.Background(), o); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child runs an import in a process of its own that dies at a failpoint, "" for none.
func child(t *testing.T, out, failpoint string) error {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childOut+"="+out, "RECPIE_FAILPOINT="+failpoint)
	return cmd.Run()
}

func TestKilledImportLeavesNoSet(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "set")
	for _, at := range []string{failRead, failWritten} {
		err := child(t, out, at)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: the process was not killed: %v", at, err)
		}
		if _, err := os.Stat(out); !os.IsNotExist(err) {
			t.Errorf("%s: the folder is there", at)
		}
		for _, name := range names(t, dir) {
			if at == failRead || !strings.HasPrefix(name, ".set.") {
				t.Errorf("%s: %s is left", at, name)
			}
		}
	}
	if len(names(t, dir)) == 0 {
		t.Error("nothing was written before the last failpoint: it kills at the wrong place")
	}
	if err := child(t, out, ""); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "set" {
		t.Errorf("the next import left %q", got)
	}
	if _, err := dataset.Check(t.Context(), out, dataset.Options{Verify: true}); err != nil {
		t.Error(err)
	}
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestCancelledImportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, crowd(50).options(dir)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

// A folder that a living import fills is not swept away.
func TestSweepSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".set.1", ".set.2", ".set.x", ".other.3"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	release, err := hold(filepath.Join(dir, ".set.2"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := sweep(filepath.Join(dir, "set")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, dir), " "); got != ".other.3 .set.2 .set.x" {
		t.Errorf("left %s", got)
	}
}
