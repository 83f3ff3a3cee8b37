package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// meter prints what phases took: by the clock, which also measures what else the machine does, and in CPU time of this process and of
// a database server on this machine.
type meter struct {
	server int // process of the database server; 0: none, or elsewhere
	start  time.Time
	own    time.Duration
	theirs time.Duration
}

// begin looks for the database server and starts the first phase.
func (m *meter) begin(ctx context.Context, dsn string) {
	m.server = serverProcess(ctx, dsn)
	m.restart()
}

func (m *meter) restart() {
	m.start, m.own, m.theirs = time.Now(), ownTime(), familyTime(m.server)
}

// line prints the phase that has ended and starts the next.
func (m *meter) line(phase string, rows int64) {
	took := time.Since(m.start)
	rate, own, theirs := "-", "-", "-"
	if rows > 0 {
		per := func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1e6/float64(rows)) }
		rate, own = fmt.Sprintf("%.0f", float64(rows)/took.Seconds()), per(ownTime()-m.own)
		if m.server != 0 {
			theirs = per(familyTime(m.server) - m.theirs)
		}
	}
	fmt.Printf("%-28s %9.2f %9s %13s %13s %8d\n", phase, took.Seconds(), rate, own, theirs, peak()>>20)
	m.restart()
}

// ownTime is the CPU time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serverProcess returns the process whose children serve a PostgreSQL database, 0 when it is not one of this machine.
func serverProcess(ctx context.Context, dsn string) int {
	if !strings.HasPrefix(dsn, "postgres") {
		return 0
	}
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0
	}
	defer c.Close(ctx)
	var pid int
	if err := c.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
		return 0
	}
	name, fields := stat(pid)
	if !strings.HasPrefix(name, "postgres") {
		return 0
	}
	return int(fields[parent])
}

// familyTime is the CPU time of a process and its children, living and dead.
func familyTime(pid int) (d time.Duration) {
	if pid == 0 {
		return 0
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	ticks := int64(0)
	for _, dir := range all {
		p, _ := strconv.Atoi(filepath.Base(dir))
		switch _, f := stat(p); {
		case f == nil:
		case p == pid:
			ticks += f[userTime] + f[systemTime] + f[deadUserTime] + f[deadSystemTime]
		case f[parent] == int64(pid):
			ticks += f[userTime] + f[systemTime]
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond // the unit in which Linux shows them on x86-64
}

// Places in /proc/PID/stat behind the name.
const (
	parent         = 1
	userTime       = 11
	systemTime     = 12
	deadUserTime   = 13
	deadSystemTime = 14
)

// stat reads /proc/PID/stat: the name, and the numbers behind it (the first, a letter, as 0).
func stat(pid int) (name string, fields []int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if err != nil || open < 0 || end < open {
		return "", nil
	}
	for _, f := range strings.Fields(string(b[end+1:])) {
		n, _ := strconv.ParseInt(f, 10, 64)
		fields = append(fields, n)
	}
	if len(fields) <= deadSystemTime {
		return "", nil
	}
	return string(b[open+1 : end]), fields
}

// peak returns the largest resident memory of this process so far, in bytes.
func peak() (bytes int64) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if _, err := fmt.Sscanf(in.Text(), "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
