package scripts

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// libtorchZip makes an archive that has the shape of libtorch's and returns its SHA-256.
func libtorchZip(t *testing.T, path string, names ...string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, name := range names {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// tools makes a folder that can stand for PATH, with the named programs alone.
func tools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		if name == "python3" { // what is found may be a script that looks for another
			out, err := exec.Command(path, "-c", "import sys; print(sys.executable)").Output()
			if err != nil {
				t.Fatal(err)
			}
			path = strings.TrimSpace(string(out))
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// setup runs setup.sh libtorch and returns what it said and whether it succeeded.
func setup(t *testing.T, path, cache string, env ...string) (string, bool) {
	t.Helper()
	cmd := exec.Command("bash", "setup.sh", "libtorch")
	cmd.Env = append([]string{"PATH=" + path, "HOME=" + t.TempDir(), "RECPIE_CACHE=" + cache}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

var whole = []string{"go", "g++", "python3", "curl", "bash", "uname", "mkdir", "mv", "rm", "touch", "sha256sum", "cut", "basename"}

func TestSetupFetchesChecksAndGoesOn(t *testing.T) {
	path := tools(t, whole...)
	dir := t.TempDir()
	archive := filepath.Join(dir, "lt.zip")
	sum := libtorchZip(t, archive, "libtorch/lib/libtorch_cpu.so", "libtorch/include/torch/script.h", "elsewhere/x")
	cache := filepath.Join(dir, "cache")
	url := "LIBTORCH_URL=file://" + archive

	out, ok := setup(t, path, cache, url, "LIBTORCH_SHA256="+strings.Repeat("0", 64))
	if ok || !strings.Contains(out, "does not have the expected SHA-256") {
		t.Errorf("a wrong sum was taken: %s", out)
	}
	if _, err := os.Stat(filepath.Join(cache, "libtorch-2.1.1")); err == nil {
		t.Error("the piece is there for all that")
	}

	// a download that was cut short, and a piece that was being unpacked when the machine went down
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, "downloads", "libtorch.zip.part"), b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, ".libtorch-2.1.1.partial", "lib", "stale"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, ok = setup(t, path, cache, url, "LIBTORCH_SHA256="+sum)
	if !ok || !strings.Contains(out, "libtorch-2.1.1 is ready") {
		t.Fatalf("it does not go on: %s", out)
	}
	lib := filepath.Join(cache, "libtorch-2.1.1", "lib")
	if got, err := os.ReadFile(filepath.Join(lib, "libtorch_cpu.so")); err != nil || string(got) != "libtorch/lib/libtorch_cpu.so" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(lib, "libc10_cuda.so")); err != nil {
		t.Error("no stand-in for CUDA: ", err)
	}
	if _, err := os.Stat(filepath.Join(lib, "stale")); err == nil {
		t.Error("what an interrupted run left was taken over")
	}

	// the second run does nothing, and needs no more than what building needs
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	if out, ok := setup(t, path, cache); !ok || out != "" {
		t.Errorf("the second run: %v %q", ok, out)
	}
}

func TestSetupNamesWhatIsMissing(t *testing.T) {
	for missing, want := range map[string]string{
		"go": "setup: go is missing: install Go 1.26 or newer\n", "g++": "setup: g++ is missing: install a C++17 compiler (g++)\n",
		"python3": "setup: python3 is missing: install Python 3 with pip\n", "mvn": "setup: mvn is missing: install Maven, or set LIBTORCH to an official libtorch 2.1 folder\n",
	} {
		var names []string
		for _, name := range whole {
			if name != missing {
				names = append(names, name)
			}
		}
		out, ok := setup(t, tools(t, names...), filepath.Join(t.TempDir(), "cache"))
		_, last, _ := strings.Cut("\n"+strings.TrimPrefix(out, "setup: fetching pytorch-native-cpu-2.1.1-linux-x86_64.jar (118 MB)\n"), "\n")
		if ok || last != want && !strings.HasPrefix(last, want) {
			t.Errorf("without %s: %v %q", missing, ok, out)
		}
	}
	if out, ok := setup(t, tools(t, whole...), filepath.Join(t.TempDir(), "cache"), "LIBTORCH="+t.TempDir()); ok || !strings.Contains(out, "is not a libtorch folder") {
		t.Errorf("an empty LIBTORCH: %v %q", ok, out)
	}
}
