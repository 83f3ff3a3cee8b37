package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlainLinesComeInTimeAndKnowTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		r := New(&b)
		task := r.Start("explain", 100, 20)
		for range 40 {
			time.Sleep(time.Second)
			task.Add(1)
		}
		task.Done("40 new")
		r.Close()
		want := strings.Join([]string{
			"explain: 20 of 100, continuing",
			"explain: 30 of 100, 1m10s left",
			"explain: 40 of 100, 1m0s left",
			"explain: 50 of 100, 50s left",
			"explain: 60 of 100, 40s left",
			"explain done in 40s: 40 new",
		}, "\n") + "\n"
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", b.String(), want)
		}
	})
}

func TestNilReporterIsSilent(t *testing.T) {
	var r *Reporter
	task := r.Start("x", 1, 0)
	task.Add(1)
	task.Done("")
	r.Printf("x")
	r.Close()
}

func TestLogHoldsEveryLineWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown, log bytes.Buffer
		r := New(&shown)
		r.Printf("before")
		r.Log(&log)
		r.Printf("title %s", "\x1b[2J")
		time.Sleep(time.Minute)
		r.Note("only %s", "here")
		start := time.Now().Add(-time.Minute).Format(time.RFC3339)
		end := time.Now().Format(time.RFC3339)
		if want := start + "  title [2J\n" + end + "  only here\n"; log.String() != want {
			t.Errorf("logged\n%s\nwant\n%s", log.String(), want)
		}
		if shown.String() != "before\ntitle [2J\n" {
			t.Errorf("shown %q", shown.String())
		}
	})
}
