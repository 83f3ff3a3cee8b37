//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// setting reads a number that the script sets for its longer runs.
func setting(t testing.TB, name string, short int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return short
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q", name, v)
	}
	return n
}

// batch is one "recpie explain" on a real server.
type batch struct {
	t          testing.TB
	dir, pairs string // pairs: the input file
	url        string
	cmd        *exec.Cmd
	errs       bytes.Buffer
	out        bytes.Buffer
}

const inFlight = 64

func newBatch(t testing.TB, url string, pairs [][2]string) *batch {
	t.Helper()
	b := &batch{t: t, dir: t.TempDir(), url: url}
	b.pairs = filepath.Join(b.dir, "pairs.csv")
	text := []byte("user_id,item_id\n")
	for _, p := range pairs {
		text = fmt.Appendf(text, "%s,%s\n", p[0], p[1])
	}
	b.write("pairs.csv", text)
	b.write("recpie.yaml", fmt.Appendf(nil, `run: %s
data: {path: ml-100k}
inference:
  model: writer
  endpoints: [{url: %s}]
  concurrency: %d
  max_tokens: 16
  cache_size: 0 # prompts that repeat are asked each time, so that requests can be counted against rows
prompts: {history: 2, terms: 0, taste: false, opinions: false}
`, filepath.Join(b.dir, "run"), url, inFlight))
	return b
}

func (b *batch) write(name string, text []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *batch) command(args ...string) *exec.Cmd {
	return exec.CommandContext(b.t.Context(), need(b.t, "RECPIE_PEERS_BIN"), append(args, "-c", filepath.Join(b.dir, "recpie.yaml"))...)
}

// start begins the batch and returns how many rows have ended, for good or ill, as they are stored, until the program ends.
func (b *batch) start() <-chan int64 {
	b.t.Helper()
	b.cmd = b.command("explain", "--input", b.pairs, "--progress", "json", "-o", "json")
	b.cmd.Stdout, b.cmd.SysProcAttr = &b.out, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // else it would wait for its server, long after this test
	lines, err := b.cmd.StderrPipe()
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan int64, 1<<16) // never full: a line a second at most
	go func() {
		defer close(done)
		for s := bufio.NewScanner(io.TeeReader(lines, &b.errs)); s.Scan(); {
			var p struct{ Done, Dead *int64 }
			if json.Unmarshal(s.Bytes(), &p) == nil && p.Done != nil && p.Dead != nil {
				done <- *p.Done + *p.Dead
			}
		}
	}()
	return done
}

// end waits for the batch, which must end by itself and well, and returns its counts.
func (b *batch) end(done <-chan int64) map[string]any {
	b.t.Helper()
	for range done {
	}
	if err := b.cmd.Wait(); err != nil {
		b.t.Fatalf("%v\n%s", err, b.errs.Bytes())
	}
	return b.counts(b.out.Bytes())
}

func (b *batch) counts(text []byte) (counts map[string]any) {
	b.t.Helper()
	if err := json.Unmarshal(text, &counts); err != nil {
		b.t.Fatalf("%v in %s", err, text)
	}
	return counts
}

// explained is one line of the export.
type explained struct {
	Row            int64
	User           string `json:"user_id"`
	Item           string `json:"item_id"`
	Positive       string
	Negative       string
	PositiveReason string `json:"positive_reason"`
	NegativeReason string `json:"negative_reason"`
}

func (b *batch) exported() (all []explained) {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "run", "explanations.jsonl"))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e explained
		if err := json.Unmarshal(line, &e); err != nil {
			b.t.Fatalf("%v in %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// A batch whose only server is killed and started again in mid-batch ends by itself, with every row ended exactly once, each with
// the answer to its own prompt.
func TestVLLMBatchServerKilled(t *testing.T) {
	rows, kills := setting(t, "RECPIE_VLLM_ROWS", 1500), setting(t, "RECPIE_VLLM_KILLS", 1)
	ds := movieLens(t)
	if rows > 2*ds.Rated() {
		t.Fatalf("there are %d pairs", ds.Rated())
	}
	var pairs [][2]string
	for _, rec := range ds.Records[:rows/2] {
		pairs = append(pairs, [2]string{ds.Users[rec.User], ds.Items[rec.Item].ID})
	}
	s := startVLLM(t, "writer", nil, "--max-model-len", "512", "--enable-log-requests")
	s.healthy()
	b := newBatch(t, s.url, pairs)
	began := time.Now()
	done := b.start()
	killed := 0
	var away, back time.Time // the server was killed, healthy again
	before := int64(0)       // rows that had ended when it was
	var silent time.Duration // the time without a server
	for n := range done {
		switch {
		case !back.IsZero() && n > before:
			t.Logf("kill %d after %d rows: healthy again after %s, rows stored again %s later", killed, before, back.Sub(away).Round(100*time.Millisecond), time.Since(back).Round(100*time.Millisecond))
			back = time.Time{}
			before = n
		case killed < kills && n >= int64(rows*(killed+1)/(kills+1)) && back.IsZero():
			s.kill()
			away = time.Now()
			killed++
			s.start()
			s.healthy()
			back = time.Now()
			silent += back.Sub(away)
			for len(done) > 0 { // stored before the kill, told after it
				n = <-done
			}
			before = n
		}
	}
	counts := b.end(done)
	took := time.Since(began)
	if killed != kills {
		t.Fatalf("the server was killed %d times, want %d: the batch was too fast", killed, kills)
	}
	received, answered := s.logged("Received request"), s.logged("POST /v1/chat/completions", "200")
	t.Logf("%d rows in %s, %s of them without a server (%.0f rows/s beside): %d requests reached it, %d were answered (%.3f per row)",
		rows, took.Round(time.Second), silent.Round(time.Second), float64(rows)/(took-silent).Seconds(), received, answered, float64(received)/float64(rows))
	// The server logs an answer behind it: a kill takes the lines of what was in flight.
	if answered < rows-kills*inFlight || received < answered || received > rows+(kills+1)*inFlight {
		t.Errorf("%d requests reached the server and %d were answered, for %d rows and %d kills with %d in flight", received, answered, rows, kills, inFlight)
	}
	good := checkExport(t, b.exported(), pairs)
	if counts["state"] != "done" || counts["done"] != float64(good) || counts["dead"] != float64(rows-good) || counts["queued"] != 0. || counts["reused"] != 0. {
		t.Errorf("counts %v, want %d rows with a sentence of %d", counts, good, rows)
	}
	status, err := b.command("explain", "status", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if now := b.counts(status); now["done"] != counts["done"] || now["dead"] != counts["dead"] || now["state"] != "done" {
		t.Errorf("status %v, want %v", now, counts)
	}
	t.Run("alone", func(t *testing.T) { sameAlone(t, s.url, pairs, b.exported()) })
}

// checkExport holds the export against the input: a line for each pair, in order, and for each polarity a sentence or the reason why
// there is none. It returns how many sentences there are.
func checkExport(t *testing.T, all []explained, pairs [][2]string) (good int) {
	t.Helper()
	if len(all) != len(pairs) {
		t.Fatalf("%d lines exported, want %d", len(all), len(pairs))
	}
	texts := map[string]int{}
	for i, e := range all {
		if e.Row != int64(i) || e.User != pairs[i][0] || e.Item != pairs[i][1] {
			t.Fatalf("line %d is row %d of %s and %s, want %v", i, e.Row, e.User, e.Item, pairs[i])
		}
		for _, end := range [2][2]string{{e.Positive, e.PositiveReason}, {e.Negative, e.NegativeReason}} {
			if (end[0] == "") == (end[1] == "") || end[1] != "" && end[1] != "wrong_polarity" {
				t.Fatalf("line %d: text %q, reason %q, want one of them", i, end[0], end[1])
			}
			if end[0] != "" {
				good++
				texts[end[0]]++
			}
		}
	}
	t.Logf("%d sentences, %d different ones; the most frequent stands %d times", good, len(texts), slices.Max(slices.Collect(maps.Values(texts))))
	if len(texts) < 20 || good < len(pairs)/4 {
		t.Errorf("%d different sentences in %d, of %d rows: they tell nothing about rows being mixed up", len(texts), good, 2*len(pairs))
	}
	return good
}

// sameAlone asks for every twentieth pair again, in a batch of its own that nothing disturbs.
func sameAlone(t *testing.T, url string, pairs [][2]string, all []explained) {
	var some [][2]string
	var want []explained
	for i := 0; i < len(pairs); i += 20 {
		e := all[i]
		e.Row = int64(len(want))
		some, want = append(some, pairs[i]), append(want, e)
	}
	b := newBatch(t, url, some)
	b.end(b.start())
	if got := b.exported(); !slices.Equal(got, want) {
		n := 0
		for i := range got {
			if got[i] != want[i] {
				if n++; n <= 5 {
					t.Logf("pair %v: %+v, alone %+v", some[i], want[i], got[i])
				}
			}
		}
		t.Errorf("%d of %d pairs are explained otherwise alone", n, len(some))
	}
}
