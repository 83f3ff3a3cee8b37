package transport

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// directory is a resolver in memory: "hang" never answers.
type directory map[string]string

func (n directory) LookupNetIP(ctx context.Context, _, host string) (all []netip.Addr, err error) {
	at, ok := n[host]
	if at == "hang" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !ok {
		return nil, errors.New("no such host")
	}
	for _, a := range strings.Fields(at) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

func TestPublic(t *testing.T) {
	dns := directory{"gpu1": "10.0.0.7", "gpu2.corp.example": "192.168.3.4 fd00::1", "mixed": "10.0.0.7 8.8.8.8", "api.example.com": "203.0.113.5", "empty": "", "slow": "hang",
		"odd.internal": "203.0.113.9", "gpu3.local": "169.254.3.4", "slow.internal": "hang"}
	for host, private := range map[string]bool{
		"127.0.0.1": true, "[::1]": true, "127.9.9.9": true, "localhost": true, "LOCALHOST.": true, "[::ffff:127.0.0.1]": true,
		"10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.0.1": true, "[fd12::1]": true, "[fc00::]": true, "169.254.1.1": true, "[fe80::1%25eth0]": true, "[::ffff:10.0.0.1]": true,
		"172.15.0.1": false, "172.32.0.1": false, "11.0.0.1": false, "8.8.8.8": false, "100.64.0.1": false, "0.0.0.0": false, "[2001:db8::1]": false, "[fec0::1]": false, "[::ffff:8.8.8.8]": false,
		"gpu1": true, "gpu2.corp.example": true, "mixed": false, "api.example.com": false, "empty": false, "unknown": false, "slow": false,
		"gpu3.local": true, "nobody.local": true, "svc.cluster.internal": true, "nas.home.arpa": true, "x.localhost": true, "slow.internal": true,
		"odd.internal": false, "local": false, "example.local.com": false, "internal.example.com": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			got := public(t.Context(), "http://"+host+":8000/v1", dns, func(*http.Request) (*url.URL, error) { return nil, nil })
			if (len(got) == 0) != private {
				t.Errorf("%s: leaves by %q", host, got)
			}
		})
	}
	if got := Public(t.Context(), "://", dns); len(got) == 0 {
		t.Error("an address that cannot be read is private")
	}
}

// What goes to a private server through a public proxy leaves.
func TestPublicBehindAProxy(t *testing.T) {
	dns := directory{"proxy.example.com": "203.0.113.5", "proxy.corp": "10.0.0.1"}
	for by, want := range map[string][]string{"": nil, "http://proxy.corp:3128": nil, "http://proxy.example.com:3128": {"proxy.example.com"}} {
		got := public(t.Context(), "http://10.1.1.1:8000", dns, func(r *http.Request) (*url.URL, error) {
			if r.URL.Host != "10.1.1.1:8000" {
				t.Errorf("the proxy is asked for %s", r.URL)
			}
			if by == "" {
				return nil, nil
			}
			return url.Parse(by)
		})
		if !slices.Equal(got, want) {
			t.Errorf("by %q: leaves by %q", by, got)
		}
	}
}
