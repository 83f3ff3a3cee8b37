// Package progress tells a person how far long work is: bars with the time left on a terminal, plain lines elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"recpie/internal/screen"
)

// every is how often a plain line is written for work that goes on.
const every = 10 * time.Second

// Reporter shows several pieces of work, one after the other or at once. A nil *Reporter shows nothing.
type Reporter struct {
	w    io.Writer
	bars *mpb.Progress // nil on anything but a terminal
	mu   sync.Mutex    // serialises plain lines
	log  io.Writer     // nil: none
}

// New reports to w. Bars are drawn when w is a terminal and NO_COLOR and TERM=dumb are not set.
func New(w io.Writer) *Reporter {
	r := &Reporter{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		r.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return r
}

// Log writes all later lines to w as well, each with its time. Bars are not drawn there.
func (r *Reporter) Log(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = w
}

// Printf writes a line of its own, above the bars on a terminal.
func (r *Reporter) Printf(format string, args ...any) {
	if r == nil {
		return
	}
	var to io.Writer = r.w
	if r.bars != nil {
		to = r.bars
	}
	line := screen.Text(fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(to, line)
	r.note(line)
}

// note writes to the log alone. A log that cannot be written stops nothing.
func (r *Reporter) note(line string) {
	if r.log != nil {
		fmt.Fprintf(r.log, "%s  %s\n", time.Now().Format(time.RFC3339), line)
	}
}

// Note writes a line to the log alone.
func (r *Reporter) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(screen.Line(fmt.Sprintf(format, args...)))
}

// Close finishes the drawing. Tasks still open are left as they stand.
func (r *Reporter) Close() {
	if r != nil && r.bars != nil {
		r.bars.Shutdown()
	}
}

// Task is one piece of work of a known size. Its methods are safe for concurrent use; a nil *Task counts nothing.
type Task struct {
	r     *Reporter
	name  string
	total int64
	start time.Time
	bar   *mpb.Bar

	mu   sync.Mutex
	done int64
	base int64 // done before this process began
	last time.Time
}

// Start begins a task of total units, done of which are there already (from an earlier run).
func (r *Reporter) Start(name string, total, done int64) *Task {
	if r == nil {
		return nil
	}
	t := &Task{r: r, name: name, total: total, start: time.Now(), done: done, base: done, last: time.Now()}
	if r.bars != nil {
		t.bar = r.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.CountersNoUnit("%d / %d", decor.WCSyncSpace)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Name("  left "), decor.AverageETA(decor.ET_STYLE_MMSS)))
		t.bar.SetCurrent(done)
	} else if done > 0 {
		r.Printf("%s: %d of %d, continuing", name, done, total)
	}
	return t
}

// Add counts n more units.
func (t *Task) Add(n int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.done += n
	done, show := t.done, t.bar == nil && time.Since(t.last) >= every
	if show {
		t.last = time.Now()
	}
	t.mu.Unlock()
	if t.bar != nil {
		t.bar.IncrInt64(n)
		return
	}
	if show {
		t.r.Printf("%s: %d of %d, %s left", t.name, done, t.total, t.left(done))
	}
}

// Done ends the task and says how long it took; note is appended to the line.
func (t *Task) Done(note string) {
	if t == nil {
		return
	}
	if t.bar != nil {
		t.bar.SetTotal(-1, true)
	}
	if note != "" {
		note = ": " + note
	}
	t.r.Printf("%s done in %s%s", t.name, time.Since(t.start).Round(100*time.Millisecond), note)
}

// left estimates the remaining time from the mean speed of this process.
func (t *Task) left(done int64) time.Duration {
	if done <= t.base {
		return 0
	}
	per := time.Since(t.start) / time.Duration(done-t.base)
	return (per * time.Duration(t.total-done)).Round(time.Second)
}
