package main

import (
	"strings"
	"testing"
	"time"

	"recpie/clients/pool"
)

// A run that waits for servers says so once, with the reason, and once more when one is back.
func TestOutage(t *testing.T) {
	up := pool.EndpointStats{Name: "http://a:1", State: pool.Closed}
	down := pool.EndpointStats{Name: "http://b:1", State: pool.Open, LastError: "connection refused"}
	gone := up
	gone.State, gone.LastError = pool.Open, "HTTP 500"
	var o outage
	begun := time.Now()
	for i, step := range []struct {
		after   int // seconds
		servers []pool.EndpointStats
		says    string
	}{
		{0, []pool.EndpointStats{up, down}, ""},
		{5, []pool.EndpointStats{gone, down}, ""},
		{10, []pool.EndpointStats{up, down}, ""}, // too short to tell
		{15, []pool.EndpointStats{gone, down}, ""},
		{25, []pool.EndpointStats{gone, down}, "waits for one: http://a:1 (HTTP 500), http://b:1 (connection refused)"},
		{90, []pool.EndpointStats{gone, down}, ""},
		{95, []pool.EndpointStats{up, down}, "http://a:1 answers again after 1m20s"},
		{99, []pool.EndpointStats{up, down}, ""},
	} {
		got := o.look(begun.Add(time.Duration(step.after)*time.Second), step.servers)
		if (got == "") != (step.says == "") || !strings.Contains(got, step.says) {
			t.Errorf("step %d: %q, want %q", i, got, step.says)
		}
	}
}
