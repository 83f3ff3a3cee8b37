//go:build peers

package peers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"recpie/clients/vllm"
)

// vllmServer is a real server that a test has for itself, to kill and to start again at the same address.
type vllmServer struct {
	t    testing.TB
	url  string
	log  string // file: all its lives write to it
	args []string
	env  []string
	cmd  *exec.Cmd // nil: not running
	gone chan struct{}
}

// startVLLM serves one of the models that TestWriteModels made, until the test ends. The server is healthy much later.
func startVLLM(t testing.TB, model string, env []string, args ...string) *vllmServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	dir := filepath.Join(need(t, "RECPIE_VLLM_MODELS"), model)
	s := &vllmServer{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), log: filepath.Join(t.TempDir(), "vllm.log"), env: env,
		args: append([]string{need(t, "RECPIE_VLLM_SERVER"), "serve", dir, strconv.Itoa(port)}, args...)}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(s.log)
			t.Logf("the server's log ends with\n%s", text[max(0, len(text)-4000):])
		}
	})
	s.start()
	return s
}

// start starts the server, for the first time or again.
func (s *vllmServer) start() {
	s.t.Helper()
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), s.env...), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its engine is a process of its own
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.group(cmd), nil, 0o644); err != nil {
		s.t.Error(err)
	}
	s.cmd, s.gone = cmd, make(chan struct{})
	go func(gone chan struct{}) {
		defer close(gone)
		_ = cmd.Wait() // it was killed, or its log says why
	}(s.gone)
}

// healthy waits until the server answers and returns how long that took.
func (s *vllmServer) healthy() time.Duration {
	s.t.Helper()
	began := time.Now()
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	for {
		resp, err := http.Get(s.url + "/health")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		select {
		case <-every.C:
		case <-s.gone:
			s.t.Fatal("the server ended before it was ready")
		case <-s.t.Context().Done():
			s.t.Fatal("the test ended before the server was ready")
		}
		if time.Since(began) > 20*time.Minute {
			s.t.Fatal("the server was not ready after 20 minutes")
		}
	}
}

// kill ends the server and its engine at once, in the middle of whatever they do.
func (s *vllmServer) kill() {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		s.t.Error(err)
	}
	<-s.gone
	_ = os.Remove(s.group(s.cmd))
	s.cmd = nil
}

// group is the file that makes the script end the server when this process cannot.
func (s *vllmServer) group(cmd *exec.Cmd) string {
	return filepath.Join(need(s.t, "RECPIE_VLLM_GROUPS"), strconv.Itoa(cmd.Process.Pid))
}

// logged counts the lines of all lives' log that hold all of the words.
func (s *vllmServer) logged(words ...string) int {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
lines:
	for line := range strings.Lines(string(text)) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}

// counted is what a server's prefix cache was asked for and what it had, in tokens.
func counted(t testing.TB, c *vllm.Client) (queries, hits float64) {
	t.Helper()
	m, err := c.Metrics(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if !m.HasPrefixCache {
		t.Fatal("the server tells nothing of its prefix cache")
	}
	return m.PrefixQueries, m.PrefixHits
}
