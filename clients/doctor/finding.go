package doctor

import (
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
	"recpie/internal/screen"
)

// Level says how a finding is to be taken.
type Level string

// The levels of a finding.
const (
	OK   Level = "ok"
	Warn Level = "warn" // a run works, but something deserves a look
	Miss Level = "miss" // a run would fail, or must not be begun
)

// Finding is one thing that was looked at on one server. Every level but OK has a remedy.
type Finding struct {
	Server string `json:"server"`
	What   string `json:"what"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`

	path, closed string // a path of the policy that the finding opens, or closes for this reason; "": it tells of none
}

// Server is what can be examined: an inference or a training server.
type Server interface {
	// Examine asks the server and returns what it found, in the order in which it looked. It ends early where the rest depends on
	// what is missing. Failures are findings, never errors.
	Examine(ctx context.Context) []Finding
}

// Examine examines the servers, at most atOnce of them at a time, and returns their findings in the servers' order.
func Examine(ctx context.Context, servers []Server, atOnce int) []Finding {
	each := make([][]Finding, len(servers))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, s := range servers {
		g.Go(func() error {
			each[i] = s.Examine(ctx)
			return nil
		})
	}
	_ = g.Wait() // the functions return no error
	var all []Finding
	for _, f := range each {
		all = append(all, f...)
	}
	return all
}

// Count returns how many findings are warnings and how many say that something is missing.
func Count(all []Finding) (warnings, missing int) {
	for _, f := range all {
		switch f.Level {
		case Warn:
			warnings++
		case Miss:
			missing++
		}
	}
	return warnings, missing
}

// Write prints findings for people, under a heading for each server, with a summary at the end.
func Write(w io.Writer, all []Finding) {
	for i, f := range all {
		if i == 0 || all[i-1].Server != f.Server {
			fmt.Fprintf(w, "%s\n", f.Server)
		}
		fmt.Fprintf(w, "  %-4s  %-18s  %s\n", f.Level, f.What, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(w, "  %-4s  %-18s  → %s\n", "", "", f.Remedy)
		}
	}
	warnings, missing := Count(all)
	fmt.Fprintf(w, "%d missing, %d doubtful, %d in order\n", missing, warnings, len(all)-missing-warnings)
}

// chart collects the findings of one server.
type chart struct {
	server string
	all    []Finding
}

func (c *chart) note(level Level, what, remedy, detail string) {
	c.all = append(c.all, Finding{Server: c.server, What: what, Level: level, Detail: plain(detail), Remedy: remedy})
}

func (c *chart) ok(what, format string, args ...any) {
	c.note(OK, what, "", fmt.Sprintf(format, args...))
}

func (c *chart) warn(what, remedy, format string, args ...any) {
	c.note(Warn, what, remedy, fmt.Sprintf(format, args...))
}

func (c *chart) miss(what, remedy, format string, args ...any) {
	c.note(Miss, what, remedy, fmt.Sprintf(format, args...))
}

// failed notes an error. Its own hint, where it has one, knows more than the general remedy.
func (c *chart) failed(level Level, what, remedy string, err error) {
	if hint := fault.HintOf(err); hint != "" {
		remedy = hint
	}
	c.note(level, what, remedy, err.Error())
}

// lacks notes that the server cannot do something. That is in order where the settings do not need it: a run without training must not be
// warned of what only training uses.
func (c *chart) lacks(needed bool, what, remedy string, err error) {
	if needed {
		c.failed(Miss, what, remedy, err)
		return
	}
	c.ok(what, "not there, and only training would need it (%v)", err)
}

// longest is the longest detail, in bytes: servers' messages are quoted.
const longest = 500

// plain keeps what a server said from reaching a terminal as anything but one line of text.
func plain(s string) string {
	s = screen.Line(s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
