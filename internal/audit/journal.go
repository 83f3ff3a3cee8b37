package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// chunk is how many records are measured at once.
const chunk = 256

// journalHead is the first line of a journal.
type journalHead struct {
	Version int    `json:"recpie_audit"`
	Digest  string `json:"digest"` // of all that the rows depend on
}

const journalVersion = 1

// Journal keeps the rows of an audit as JSON lines, in the order of the cases. Rows are synced chunk by chunk; a line that a crash cut short is
// dropped when the journal is opened again. One of another digest is begun anew.
type Journal struct {
	f    *os.File
	done int
}

// OpenJournal opens or begins a journal at path.
func OpenJournal(path, digest string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "audit", err), "the run directory must be writable")
	}
	j := &Journal{f: f}
	if err := j.resume(digest); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Fatal, "audit: "+path, err)
	}
	return j, nil
}

// resume finds the whole lines that are there and stands behind them.
func (j *Journal) resume(digest string) error {
	r := bufio.NewReaderSize(j.f, 1<<20)
	good := int64(0)
	var head journalHead
	for n := 0; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n == 0 && (json.Unmarshal(line, &head) != nil || head != journalHead{journalVersion, digest}) {
			break
		}
		if !json.Valid(line) {
			break
		}
		j.done, good = n, good+int64(len(line))
	}
	if err := j.f.Truncate(good); err != nil {
		return err
	}
	if _, err := j.f.Seek(good, io.SeekStart); err != nil {
		return err
	}
	if good > 0 {
		return nil
	}
	return j.write(journalHead{journalVersion, digest})
}

func (j *Journal) write(values ...any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	if _, err := j.f.Write(b.Bytes()); err != nil {
		return fault.WithHint(err, "check the free space of the disk")
	}
	return j.f.Sync()
}

// Done is the number of rows.
func (j *Journal) Done() int { return j.done }

// Append adds rows. They survive a crash when it returns.
func (j *Journal) Append(rows []Row) error {
	values := make([]any, len(rows))
	for i := range rows {
		values[i] = rows[i]
	}
	if err := j.write(values...); err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	j.done += len(rows)
	return nil
}

// Each hands over the rows one by one.
func (j *Journal) Each(fn func(*Row) error) error {
	info, err := j.f.Stat()
	if err != nil {
		return fault.New(fault.Fatal, "audit", err)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, info.Size()), 1<<20)
	for n := 0; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Fatal, "audit", err)
		}
		if n == 0 {
			continue
		}
		var row Row
		if err := json.Unmarshal(line, &row); err != nil {
			return fault.WithHint(fault.Newf(fault.Fatal, "audit", "%s:%d: %w", j.f.Name(), n+1, err), "delete the file and audit again")
		}
		if err := fn(&row); err != nil {
			return err
		}
	}
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }

// Run audits the cases that the journal does not have yet; cases returns those of a range, of n in all. progress, which may be nil, is told how
// many more are done.
//
// Failpoint: audit-appended (rows are in the journal, nothing is made of them).
func Run(ctx context.Context, p Predictor, t Threshold, j *Journal, n int, cases func(from, to int) []Case, progress func(int)) error {
	for from := j.Done(); from < n; from = j.Done() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rows, err := Measure(ctx, p, cases(from, min(from+chunk, n)))
		if err != nil {
			return err
		}
		for i := range rows {
			rows[i].judge(t.Used)
		}
		if err := j.Append(rows); err != nil {
			return err
		}
		failpoint.Hit("audit-appended")
		if progress != nil {
			progress(len(rows))
		}
	}
	return nil
}
