package main

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/queue"
)

func TestUIAsksForTheToken(t *testing.T) {
	db, err := queue.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	t.Setenv(tokenVariable, "")
	var usage *usageError
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "localhost:0", ":0", "nonsense"} {
		if _, _, err := serveUI(t.Context(), db, addr); !errors.As(err, &usage) {
			t.Errorf("%s without a token: %v", addr, err)
		}
	}
	get := func(url, header, site string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		if site != "" {
			req.Method = http.MethodPost
			req.Header.Set("Sec-Fetch-Site", site)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	url, stop, err := serveUI(t.Context(), db, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if code, page := get(url+"/", "", ""); code != http.StatusOK || !strings.Contains(page, "River") {
		t.Errorf("the page: %d", code)
	}
	if code, _ := get(url+"/api/jobs", "", "cross-site"); code != http.StatusForbidden {
		t.Errorf("a page of another site got %d", code)
	}
	stop()
	t.Setenv(tokenVariable, "s3cret")
	url, stop, err = serveUI(t.Context(), db, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for header, want := range map[string]int{"": 401, "Bearer s3cre": 401, "Bearer s3cret": 200, "Basic eDpzM2NyZXQ=": 200, "Basic eDpubw==": 401, "s3cret": 401} {
		if code, _ := get(url+"/", header, ""); code != want {
			t.Errorf("with %q: %d, want %d", header, code, want)
		}
	}
}
