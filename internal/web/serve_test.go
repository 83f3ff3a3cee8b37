package web

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestVisitorsNeedTheToken(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer http.DefaultClient.CloseIdleConnections()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "River") })
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "localhost:0", ":0", "nonsense"} {
		if _, _, err := Serve(addr, "", page); err == nil {
			t.Errorf("%s was served without a token", addr)
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
	url, stop, err := Serve("127.0.0.1:0", "", page)
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
	url, stop, err = Serve("127.0.0.1:0", "s3cret", page)
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
