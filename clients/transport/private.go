package transport

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Resolver looks host names up, as net.DefaultResolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// resolveTime bounds a look-up: an answer that takes longer is taken for none.
const resolveTime = 3 * time.Second

// reserved are the endings of names that no public name server may resolve.
var reserved = []string{".localhost", ".local", ".internal", ".home.arpa"}

// Public returns the hosts through which what is sent to an address leaves the private network: the server's own and, where the
// environment names one for it, the proxy's; none when both are private. A host is private when it is, or all of its addresses are,
// loopback, of RFC 1918, unique local (fc00::/7) or link-local. A name that cannot be resolved counts as private only by an ending that
// is reserved for private use: whatever is in doubt is public. nil takes the system's resolver.
func Public(ctx context.Context, address string, r Resolver) []string {
	if r == nil {
		r = net.DefaultResolver
	}
	return public(ctx, address, r, http.ProxyFromEnvironment)
}

func public(ctx context.Context, address string, r Resolver, proxy func(*http.Request) (*url.URL, error)) []string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return []string{address}
	}
	var out []string
	if !private(ctx, u.Hostname(), r) {
		out = append(out, u.Hostname())
	}
	if p, err := proxy(&http.Request{URL: u}); err == nil && p != nil && !private(ctx, p.Hostname(), r) {
		out = append(out, p.Hostname())
	}
	return out
}

func private(ctx context.Context, host string, r Resolver) bool {
	if at, err := netip.ParseAddr(host); err == nil {
		return privateAddr(at)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	all, err := r.LookupNetIP(ctx, "ip", name)
	if err != nil || len(all) == 0 {
		for _, end := range reserved {
			if strings.HasSuffix(name, end) {
				return true
			}
		}
		return false
	}
	for _, at := range all {
		if !privateAddr(at) {
			return false
		}
	}
	return true
}

func privateAddr(at netip.Addr) bool {
	at = at.Unmap().WithZone("")
	return at.IsLoopback() || at.IsPrivate() || at.IsLinkLocalUnicast()
}
