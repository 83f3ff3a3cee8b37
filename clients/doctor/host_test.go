package doctor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"recpie/clients/transport"
)

func TestPrivate(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.0.0.9": true, "172.31.255.255": true, "172.32.0.1": false, "192.168.1.1": true, "169.254.1.1": true, "100.64.0.1": true, "100.128.0.1": false,
		"8.8.8.8": false, "2001:db8::1": false, "fd12::1": true, "fe80::1": true, "::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false,
		"localhost": true, "LOCALHOST.": true, "vllm": true, "vllm.models.svc": true, "vllm.models.svc.cluster.local": true, "gpu1.internal": true, "no-such-name.invalid": false,
	} {
		if got := private(t.Context(), host); got != want {
			t.Errorf("private(%s) = %v", host, got)
		}
	}
	for host, want := range map[string]bool{"127.8.9.1": true, "::1": true, "localhost": true, "x.localhost": true, "10.0.0.1": false, "localhost.example": false} {
		if got := loopback(host); got != want {
			t.Errorf("loopback(%s) = %v", host, got)
		}
	}
}

// Over a real network with TLS, the certificate's end is told.
func TestCertificate(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	l, err := dial(transport.Settings{BaseURL: srv.URL, RoundTripper: srv.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	a, err := l.get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	c := &chart{server: srv.URL}
	c.encryption(t.Context(), l, a)
	want(t, c.all, "encryption", OK, "TLS 1.3, certificate until 20")
	c = &chart{server: srv.URL}
	a.came = a.tls.PeerCertificates[0].NotAfter.Add(-13 * 24 * time.Hour)
	c.encryption(t.Context(), l, a)
	want(t, c.all, "encryption", Warn, "renew")
}

// Over a real network: nobody there, somebody who redirects, somebody who says nothing.
func TestUnreachable(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	moved := httptest.NewServer(http.RedirectHandler("https://elsewhere.example/", http.StatusMovedPermanently))
	defer moved.Close()
	for url, says := range map[string]string{gone.URL: "refused", moved.URL: "elsewhere.example"} {
		all := Examine(t.Context(), []Server{Inference{URL: url, Model: "m"}, Training{URL: url, Model: "m"}}, 2)
		if len(all) != 2 {
			t.Errorf("%s", printed(all))
		}
		want(t, all, "reachable", Miss, says)
		remedied(t, all)
	}
}

// A key never reaches a finding, not even from a server that repeats it.
func TestKeyIsNotTold(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "s3cret-key")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			return
		}
		http.Error(w, "you sent "+r.Header.Get("Authorization")+r.Header.Get("X-API-Key"), http.StatusBadRequest)
	}))
	defer srv.Close()
	all := Examine(t.Context(), []Server{Inference{URL: srv.URL, KeyEnv: "DOCTOR_TEST_KEY", Model: "m", PromptTokens: 9, AnswerTokens: 9}, Training{URL: srv.URL, KeyEnv: "DOCTOR_TEST_KEY", Model: "m"}}, 1)
	if text := string(printed(all)); strings.Contains(text, "s3cret") || len(all) < 4 {
		t.Errorf("%s", text)
	}
}
