package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"recpie/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSecretDoesNotLeak(t *testing.T) {
	t.Setenv("RECPIE_TEST_KEY", " s3cret ")
	s, err := SecretFromEnv("RECPIE_TEST_KEY")
	if err != nil || s.Reveal() != "s3cret" {
		t.Fatalf("%v", err)
	}
	type holder struct {
		Key Secret
		P   *Secret
	}
	h := holder{s, &s}
	js, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "holder", h)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "holder", h)
	for _, text := range []string{fmt.Sprint(h), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%+v %#v", h, h), string(js), log.String()} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("the key is in %s", text)
		}
	}
}

func TestSecretSources(t *testing.T) {
	if s, err := SecretFromEnv(""); err != nil || !s.Empty() || s.String() != "" {
		t.Errorf("no name: %v, %v", s, err)
	}
	if _, err := SecretFromEnv("RECPIE_TEST_UNSET"); err == nil || fault.HintOf(err) == "" {
		t.Errorf("unset: %v", err)
	}
	path := filepath.Join(t.TempDir(), "key")
	for content, ok := range map[string]bool{"abc\n": true, "": false, "\n": false, "a\nb": false, "ü": false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := SecretFromFile(path)
		if (err == nil) != ok || (ok && s.Reveal() != "abc") {
			t.Errorf("%q: %v", content, err)
		}
		if err != nil && content != "" && strings.TrimSpace(content) != "" && strings.Contains(err.Error(), content) {
			t.Errorf("the content is in %v", err)
		}
	}
	if _, err := SecretFromFile(path + "x"); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "host:80", "ftp://h", "http://", "http://u:pw@h", "http://h?x=1", "http://h#f", "::"} {
		if _, err := New(Settings{BaseURL: url}); err == nil || fault.ClassOf(err) != fault.Fatal {
			t.Errorf("%q: %v", url, err)
		} else if strings.Contains(err.Error(), "pw") {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		key, value string
		want       time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second}, {"Retry-After", "0.5", 500 * time.Millisecond}, {"Retry-After", "-1", 0}, {"Retry-After", "x", 0}, {"Retry-After", "", 0},
		{"Retry-After", "NaN", 0}, {"Retry-After", "1e300", 24 * time.Hour}, {"Retry-After", now.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{"Retry-After", now.Add(-time.Hour).Format(http.TimeFormat), 0}, {"Retry-After-Ms", "250", 250 * time.Millisecond},
	} {
		h := http.Header{}
		h.Set(tc.key, tc.value)
		if got := parseRetryAfter(h, now); got != tc.want {
			t.Errorf("%s: %s: %v, want %v", tc.key, tc.value, got, tc.want)
		}
	}
}

// trips answers from a list of statuses; 0 is a broken connection. It records when it was called.
type trips struct {
	statuses []int
	header   http.Header
	at       []time.Time
}

func (r *trips) RoundTrip(*http.Request) (*http.Response, error) {
	i := min(len(r.at), len(r.statuses)-1)
	r.at = append(r.at, time.Now())
	if r.statuses[i] == 0 {
		return nil, errors.New("connection reset")
	}
	h := r.header
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: r.statuses[i], Header: h, Body: io.NopCloser(strings.NewReader(""))}, nil
}

func call(ctx context.Context, t *testing.T, rt http.RoundTripper) error {
	t.Helper()
	c, err := New(Settings{BaseURL: "http://h", RoundTripper: rt, Attempts: 5, BackoffFirst: time.Second, BackoffMax: 8 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c.Call(ctx, Call{Op: "op", Method: "GET", Path: "/", Check: func(r *Reply) error {
		switch r.Status {
		case 200:
			return nil
		case 400:
			return fault.Newf(fault.Item, "op", "bad")
		}
		return fault.Newf(fault.Transient, "op", "HTTP %d", r.Status)
	}})
}

// TestBackoff measures the pauses on a synthetic clock.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &trips{statuses: []int{503, 0, 429, 200}}
		if err := call(t.Context(), t, rt); err != nil {
			t.Fatal(err)
		}
		if len(rt.at) != 4 {
			t.Fatalf("%d attempts, want 4", len(rt.at))
		}
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if d := rt.at[i+1].Sub(rt.at[i]); d < want/2 || d > want*3/2 {
				t.Errorf("pause %d was %v, want %v ± half", i, d, want)
			}
		}
	})
}

func TestBackoffHonoursRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{"5": 5 * time.Second, "1000000": 8 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			rt := &trips{statuses: []int{429, 429, 200}, header: http.Header{"Retry-After": {value}}}
			if err := call(t.Context(), t, rt); err != nil {
				t.Fatal(err)
			}
			if d := rt.at[1].Sub(rt.at[0]); d != want {
				t.Errorf("Retry-After %s: waited %v, want %v", value, d, want)
			}
		})
	}
}

func TestAttemptsEndAndKeepTheAskedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &trips{statuses: []int{503}, header: http.Header{"Retry-After": {"2"}}}
		err := call(t.Context(), t, rt)
		if len(rt.at) != 5 || fault.ClassOf(err) != fault.Transient || fault.RetryAfter(err) != 2*time.Second {
			t.Errorf("%d attempts, %v (%v, %v)", len(rt.at), err, fault.ClassOf(err), fault.RetryAfter(err))
		}
		rt = &trips{statuses: []int{400}}
		if err = call(t.Context(), t, rt); len(rt.at) != 1 || fault.ClassOf(err) != fault.Item {
			t.Errorf("an item error was tried %d times: %v", len(rt.at), err)
		}
	})
}

func TestCancelCutsThePauseShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := call(ctx, t, &trips{statuses: []int{503}, header: http.Header{"Retry-After": {"7"}}})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "503") || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// A connection is given up here before a server with vLLM's habit gives it up, so that none is closed under a request.
func TestIdleConnectionsEndFirst(t *testing.T) {
	const theirs = 5 * time.Second
	states := make(chan http.ConnState, 16)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) { states <- s }
	srv.Start()
	defer srv.Close()
	c, err := New(Settings{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(t.Context(), Call{Op: "test", Method: http.MethodGet, Path: "/", Check: func(*Reply) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	late := time.After(theirs)
	for {
		select {
		case s := <-states:
			if s == http.StateClosed {
				return
			}
		case <-late:
			t.Fatalf("the connection is still open after %s", theirs)
		}
	}
}
