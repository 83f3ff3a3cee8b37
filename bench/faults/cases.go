package main

import (
	"fmt"
	"time"

	"recpie/internal/faultproxy"
)

// turns of clean and spoiled rows.
const turns = 4

// spoiled asks for rows by turns clean and with a fifth of the requests spoiled. Every row must end, with the answer of the clean turn.
func spoiled(s settings, t *table) error {
	f, err := newFleet(s)
	if err != nil {
		return err
	}
	defer f.close()
	if _, _, err := f.rows(s.rows/4, s.callers); err != nil { // the pool finds its limits
		return err
	}
	var truth, got []string
	var clean, took time.Duration
	var asked int64
	right := 0
	for range turns { // in turns: the machine may do more at one time than at another
		var d time.Duration
		if truth, d, err = f.rows(s.rows/turns, s.callers); err != nil {
			return err
		}
		clean += d
		for _, p := range f.proxies {
			if err := p.Rate(spoiledShare, faultproxy.Passing()...); err != nil {
				return err
			}
		}
		before := f.requests()
		if got, d, err = f.rows(s.rows/turns, s.callers); err != nil {
			return err
		}
		took += d
		asked += f.requests() - before
		right += same(got, truth)
		for _, p := range f.proxies {
			if err := p.Clean(); err != nil {
				return err
			}
		}
	}
	kinds := map[string]bool{}
	for _, p := range f.proxies {
		for name := range p.Faults() {
			kinds[name] = true
		}
	}
	rows := float64(s.rows / turns * turns)
	perSecond := func(d time.Duration) float64 { return rows / d.Seconds() }
	fmt.Fprintf(t.w, "clean\t%.0f rows/s\t\t\n", perSecond(clean))
	share := clean.Seconds() / took.Seconds()
	t.row(share >= leastSpoiled, fmt.Sprintf("%.0f%% of requests spoiled, %d ways", 100*spoiledShare, len(kinds)), fmt.Sprintf("%.0f rows/s, %.0f%%", perSecond(took), 100*share), fmt.Sprintf("≥ %.0f%%", 100*leastSpoiled))
	per := float64(asked) / rows
	t.row(per <= mostRequests, "  requests per row", fmt.Sprintf("%.3f", per), fmt.Sprintf("≤ %.1f", mostRequests))
	t.row(right == s.rows/turns*turns, "  rows with the true answer", fmt.Sprint(right), "all")
	left := f.close()
	t.row(left == 0, "  connections left", fmt.Sprint(left), "0")
	return nil
}

func same(a, b []string) (n int) {
	for i := range a {
		if a[i] == b[i] && a[i] != "" {
			n++
		}
	}
	return n
}

// failure is how a server fails.
type failure struct {
	name string
	do   func(*faultproxy.Proxy) error
}

var failures = []failure{
	{"killed", (*faultproxy.Proxy).Kill},
	{"hung", func(p *faultproxy.Proxy) error { p.Hang(); return nil }},
	{"20 times slower", func(p *faultproxy.Proxy) error { p.Slow(20); return nil }},
}

// oneFails breaks the first server under load, looks at the throughput 10 s later, and mends it.
func oneFails(s settings, t *table, how failure) error {
	f, err := newFleet(s)
	if err != nil {
		return err
	}
	defer f.close()
	stop := f.load(s.callers)
	time.Sleep(3 * time.Second)
	clean := f.rate(4 * time.Second)
	bad := f.proxies[0]
	if err := how.do(bad); err != nil {
		return err
	}
	others := clean * float64(s.servers-1) / float64(s.servers)
	begin, back := time.Now(), time.Duration(0)
	for time.Since(begin) < failureTime {
		if r := f.rate(time.Second); back == 0 && r >= leastOthers*others {
			back = time.Since(begin)
		} else if r < leastOthers*others {
			back = 0
		}
	}
	after := f.rate(3 * time.Second)
	t.row(after >= leastOthers*others, fmt.Sprintf("one of %d %s", s.servers, how.name), fmt.Sprintf("%.0f → %.0f rows/s, %.0f%% of %d, for good after %.0f s", clean, after, 100*after/others, s.servers-1, back.Seconds()), fmt.Sprintf("≥ %.0f%% after %v", 100*leastOthers, failureTime))
	if err := bad.Revive(); err != nil {
		return err
	}
	fair := clean / float64(s.servers)
	begin, back = time.Now(), 0
	part := 0.0
	for back == 0 && time.Since(begin) < recoveryTime {
		asked, at := bad.Requests(), time.Now()
		time.Sleep(time.Second)
		if part = float64(bad.Requests()-asked) / time.Since(at).Seconds() / fair; part >= 0.5 {
			back = time.Since(begin)
		}
	}
	t.row(back > 0, "  mended", fmt.Sprintf("does %.0f%% of its part after %.0f s", 100*part, time.Since(begin).Seconds()), fmt.Sprintf("half within %v", recoveryTime))
	if err := stop(); err != nil {
		return fmt.Errorf("one of %d %s: %w", s.servers, how.name, err)
	}
	return nil
}
