package main

import (
	"strings"
	"testing"
	"time"

	"recpie/clients/pool"
)

func TestSilence(t *testing.T) {
	up, away, trying := pool.EndpointStats{Name: "a", State: pool.Closed}, pool.EndpointStats{Name: "b", State: pool.Open, LastError: "connection refused"}, pool.EndpointStats{Name: "c", State: pool.HalfOpen, LastError: "still away"}
	var s silence
	now := time.Unix(0, 0)
	for i, step := range []struct {
		after   time.Duration
		servers []pool.EndpointStats
		says    string
	}{
		{0, []pool.EndpointStats{up, away}, ""},
		{time.Minute, []pool.EndpointStats{away}, ""}, // silent from here
		{10 * time.Second, []pool.EndpointStats{away, trying}, ""},
		{10 * time.Second, []pool.EndpointStats{away}, "for 20s (b: connection refused)"},
		{time.Hour, []pool.EndpointStats{away}, ""}, // told once
		{time.Second, []pool.EndpointStats{away, up}, "answer again"},
		{time.Second, []pool.EndpointStats{up}, ""},
		{time.Second, []pool.EndpointStats{away}, ""},
		{time.Second, []pool.EndpointStats{up}, ""}, // too short to be told
		{time.Hour, nil, ""},
		{time.Hour, nil, ""},
	} {
		now = now.Add(step.after)
		got := s.look(step.servers, now)
		if (got == "") != (step.says == "") || !strings.Contains(got, step.says) {
			t.Errorf("step %d says %q, want %q", i, got, step.says)
		}
	}
}
