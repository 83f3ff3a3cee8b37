package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"recpie/internal/faultproxy/fakefleet"
	"recpie/internal/pgtest"
	"recpie/internal/queue"
)

// The command itself, killed at every named place of the batch engine and at random moments: the same command ends with the bytes of an
// unbroken run, and what was in flight at a kill is all that is asked again.

// explainFailpoints are the places on the way of a batch that fits into one group of rows.
var explainFailpoints = []string{"queue-planned:1", "queue-dispatched:1", "queue-before-commit:4", "queue-in-commit:3", "queue-after-commit:5", "queue-sealed:1"}

// The batches of these tests: so many rows of a job, and in flight at most.
const (
	crashChunk  = 8
	crashWindow = 2 * crashChunk // two workers keep 8 requests in flight (fleet.yaml)
)

// crashing is a batch to be killed, with what an unbroken run made of it.
type crashing struct {
	input string   // the file's text
	data  string   // folder with planted data; "" for requests
	args  []string // beyond the input
	want  []byte   // the export of an unbroken run
	asked int64    // requests of an unbroken run
}

func (c *crashing) scene(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t, fakefleet.Config{Capacity: 8, Service: 5 * time.Millisecond, MaxModelLen: 512})
	if c.data != "" {
		if err := os.Symlink(c.data, f.path("planted")); err != nil {
			t.Fatal(err)
		}
	}
	f.write(t, "in.jsonl", c.input)
	return f
}

func (c *crashing) line() []string {
	return append([]string{"explain", "-c", "fleet.yaml", "--run", "run", "--input", "in.jsonl", "--chunk", fmt.Sprint(crashChunk), "--out", "out.jsonl"}, c.args...)
}

// unbrokenBatch runs a batch to its end without a kill.
func unbrokenBatch(t *testing.T, c crashing) *crashing {
	t.Helper()
	f := c.scene(t)
	must(t, f.dir, f.env, c.line()...)
	c.want, c.asked = sorted(f.read(t, "out.jsonl"), c.args), f.server.Stats().Requests
	return &c
}

// sorted puts the lines of an export that came as they were completed into an order that two runs share.
func sorted(export []byte, args []string) []byte {
	if !slices.Contains(args, "completed") {
		return export
	}
	all := slices.Collect(bytes.Lines(export))
	slices.SortFunc(all, bytes.Compare)
	return bytes.Join(all, nil)
}

// check runs the command to its end after so many kills.
func (c *crashing) check(t *testing.T, f *fleet, kills int) {
	t.Helper()
	must(t, f.dir, f.env, c.line()...)
	if got := sorted(f.read(t, "out.jsonl"), c.args); !bytes.Equal(got, c.want) {
		t.Errorf("the export has %d bytes in %d lines and is not that of an unbroken run, which has %d in %d", len(got), bytes.Count(got, []byte("\n")), len(c.want), bytes.Count(c.want, []byte("\n")))
	}
	s := f.server.Stats()
	if s.Distinct != c.asked || s.Repeated > int64(kills*crashWindow) {
		t.Errorf("%d requests were asked and %d asked again after %d kills; an unbroken run asks %d", s.Distinct, s.Repeated, kills, c.asked)
	}
	t.Logf("%d kills, %d of %d requests asked again", kills, s.Repeated, s.Distinct)
}

// atEveryFailpoint kills one batch at one place after the other.
func (c *crashing) atEveryFailpoint(t *testing.T) {
	f := c.scene(t)
	for _, place := range explainFailpoints {
		if o := recpie(t, f.dir, append(f.env, "RECPIE_FAILPOINT="+place), c.line()...); o.code != -1 {
			t.Fatalf("was not killed at %s: exit code %d\n%s", place, o.code, o.stderr)
		}
	}
	c.check(t, f, len(explainFailpoints))
}

// atRandomMoments kills one batch up to so many times, each time a moment after so many more requests.
func (c *crashing) atRandomMoments(t *testing.T, seed uint64, most int) {
	rng := rand.New(rand.NewPCG(seed, 0xdead))
	f := c.scene(t)
	kills := 0
	for range most {
		f.fuse.Store(1 + rng.Int64N(c.asked/int64(most)))
		cmd := child(t.Context(), f.dir, f.env, c.line()...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended: // all was asked before
		case <-f.blown:
			<-time.After(time.Duration(rng.Int64N(int64(20 * time.Millisecond)))) // somewhere between two commits
			_ = cmd.Process.Kill()
			<-ended
		}
		code := cmd.ProcessState.ExitCode()
		if code > 0 {
			t.Fatalf("exit code %d before the kill\n%s", code, &stderr)
		}
		if code == 0 {
			break
		}
		kills++
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	c.check(t, f, kills)
}

// pairsAndRequests are the batches that are killed.
func pairsAndRequests(t *testing.T) map[string]crashing {
	t.Helper()
	f := newFleet(t, fakefleet.Config{})
	f.planted(t)
	requests := strings.ReplaceAll(someRequests(400), "gpt-4o-mini", "tiny")
	return map[string]crashing{
		"pairs":               {input: somePairs(250), data: f.path("planted")},
		"pairs, completed":    {input: somePairs(250), data: f.path("planted"), args: []string{"--order", "completed"}},
		"requests":            {input: requests},
		"requests, completed": {input: requests, args: []string{"--order", "completed"}},
	}
}

func TestKilledExplainContinues(t *testing.T) {
	unbrokenBatch(t, pairsAndRequests(t)["pairs"]).atEveryFailpoint(t)
}

func TestExplainKilledAtEveryFailpoint(t *testing.T) {
	full(t)
	for name, c := range pairsAndRequests(t) {
		t.Run(name, func(t *testing.T) { unbrokenBatch(t, c).atEveryFailpoint(t) })
	}
}

func TestExplainKilledAtRandomMoments(t *testing.T) {
	full(t)
	for name, c := range pairsAndRequests(t) {
		w := unbrokenBatch(t, c)
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) { w.atRandomMoments(t, seed, 5) })
		}
	}
}

// A batch is planned into PostgreSQL; of two workers one is killed; the other ends the batch, and a machine that knows nothing but the
// database exports it.
func TestKilledWorkerOnPostgres(t *testing.T) {
	dsn := pgtest.Fresh(t)
	for _, name := range []string{"pairs", "requests"} {
		t.Run(name, func(t *testing.T) {
			c := unbrokenBatch(t, pairsAndRequests(t)[name])
			f := c.scene(t)
			env := append(f.env, "RECPIE_DATABASE_URL="+dsn)
			must(t, f.dir, env, append(c.line(), "--name", name, "--plan-only")...)
			db, err := queue.Open(t.Context(), dsn, queue.Options{Observe: true})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			b, err := db.Lookup(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			const perWorker = 2 // chunks
			var log [2]bytes.Buffer
			ended := [2]chan error{make(chan error, 1), make(chan error, 1)}
			var procs [2]*os.Process
			for i := range procs {
				w := newFleet(t, fakefleet.Config{}) // a machine of its own: no data, no settings
				cmd := child(t.Context(), w.dir, append(w.env, "RECPIE_DATABASE_URL="+dsn), "worker", "--workers", fmt.Sprint(perWorker))
				cmd.Stderr = &log[i]
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				procs[i] = cmd.Process
				go func() { ended[i] <- cmd.Wait() }()
			}
			var s queue.Status
			killed := false
			for began := time.Now(); time.Since(began) < 2*time.Minute && s.State != queue.Done; time.Sleep(20 * time.Millisecond) { // other processes: there is no clock to fake
				if !killed && f.server.Stats().Requests > c.asked/3 {
					killed = true
					if err := procs[0].Kill(); err != nil {
						t.Fatal(err)
					}
				}
				if s, err = db.Status(t.Context(), b); err != nil {
					t.Fatal(err)
				}
			}
			_ = procs[1].Signal(syscall.SIGTERM)
			<-ended[0]
			if err := <-ended[1]; err != nil || s.State != queue.Done || !killed {
				t.Fatalf("killed %v, the other ends with %v, %+v\n%s\n%s", killed, err, s.Counts, &log[0], &log[1])
			}
			other := newFleet(t, fakefleet.Config{})
			o := must(t, other.dir, append(other.env, "RECPIE_DATABASE_URL="+dsn), "explain", "export", "--name", name)
			if o.stdout != string(c.want) {
				t.Errorf("%d bytes were exported elsewhere, an unbroken run exports %d", len(o.stdout), len(c.want))
			}
			st := f.server.Stats()
			if st.Distinct != c.asked || st.Repeated > perWorker*crashChunk {
				t.Errorf("%d requests were asked and %d asked again; an unbroken run asks %d", st.Distinct, st.Repeated, c.asked)
			}
			t.Logf("%d of %d requests asked again", st.Repeated, st.Distinct)
		})
	}
}
