package doctor

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// carrierGrade is the shared address space of RFC 6598, which overlay networks use as well.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

func privateAddr(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || carrierGrade.Contains(a)
}

// loopback tells whether a host is this machine.
func loopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// private tells whether a host lies inside a private network: by its address, by a name that cannot be public, or because all its
// addresses are private. A name that cannot be resolved is taken for public.
func private(ctx context.Context, host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return privateAddr(a)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if loopback(host) || !strings.Contains(host, ".") {
		return true
	}
	for _, end := range []string{".local", ".internal", ".intranet", ".lan", ".home.arpa", ".svc"} {
		if strings.HasSuffix(host, end) {
			return true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, a := range all {
		if !privateAddr(a) {
			return false
		}
	}
	return err == nil && len(all) > 0
}

// soon is how long before its end a certificate is reported.
const soon = 14 * 24 * time.Hour

// encryption says whether others can read what is sent: prompts hold what people wrote.
func (c *chart) encryption(ctx context.Context, l *link, a *answer) {
	const what = "encryption"
	host := l.url.Hostname()
	switch {
	case l.url.Scheme == "https":
		c.certificate(what, a)
	case loopback(host):
		c.ok(what, "plain http, on this machine")
	case private(ctx, host):
		c.ok(what, "plain http, inside a private network")
	default:
		c.warn(what, "serve it over https, or reach it through a tunnel or VPN", "plain http to a host that is not private: review text, and the key if there is one, travel in the clear")
	}
}

func (c *chart) certificate(what string, a *answer) {
	if a.tls == nil || len(a.tls.PeerCertificates) == 0 {
		c.ok(what, "https")
		return
	}
	end := a.tls.PeerCertificates[0].NotAfter
	if end.Sub(a.came) < soon {
		c.warn(what, "renew the certificate", "%s, the certificate ends on %s", tls.VersionName(a.tls.Version), end.UTC().Format(time.DateOnly))
		return
	}
	c.ok(what, "%s, certificate until %s", tls.VersionName(a.tls.Version), end.UTC().Format(time.DateOnly))
}

// tolerance is how far a server's clock may be off, as far as the Date header, which counts whole seconds, can tell.
const tolerance = 5 * time.Second

// clock compares the server's clock with ours. Retry-After dates, certificates and the order of log lines depend on both.
func (c *chart) clock(a *answer) {
	const what = "clock"
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		c.ok(what, "the server sends no date to compare")
		return
	}
	// The server's time was within [date, date+1s) at some moment between sent and came.
	ahead, behind := date.Sub(a.came), a.sent.Sub(date.Add(time.Second))
	switch off := max(ahead, behind); {
	case off <= tolerance:
		c.ok(what, "agrees with this machine's")
	case ahead > behind:
		c.warn(what, "synchronize both machines' clocks (NTP)", "%s ahead of this machine's", ahead.Round(time.Second))
	default:
		c.warn(what, "synchronize both machines' clocks (NTP)", "%s behind this machine's", behind.Round(time.Second))
	}
}
