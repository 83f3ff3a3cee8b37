package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// Record is one finished fit, a line of trials.jsonl. A trial counts when the fits of all its seeds are there.
type Record struct {
	Trial    int     `json:"trial"` // 0 is the model's own settings
	Seed     int64   `json:"seed"`  // of the fit
	Confirms bool    `json:"confirms,omitempty"`
	AtMost   int     `json:"at_most,omitempty"` // epochs that the fit was cut at, 0: as the settings say
	Values   Values  `json:"values"`
	RMSE     float64 `json:"rmse"`             // validation
	Epochs   int     `json:"epochs,omitempty"` // chosen on validation, 0 when the model has none
	Seconds  float64 `json:"seconds"`          // it took
	At       float64 `json:"at"`               // seconds of search when it was finished, over all sittings; 0 for a confirmation
	Error    string  `json:"error,omitempty"`  // why it failed
}

// key names what was measured.
type key struct {
	trial, atMost int
	confirms      bool
	seed          int64
}

func (r *Record) key() key { return key{r.Trial, r.AtMost, r.Confirms, r.Seed} }

// sound says whether a line could have been written by a search.
func (r *Record) sound() bool {
	return r.Trial >= 0 && r.AtMost >= 0 && r.Seconds >= 0 && r.At >= 0 && r.RMSE >= 0 && r.Epochs >= 0 && r.Values != nil
}

// journal is trials.jsonl: lines are appended and synced, and a line that a crash cut short is cut away when the file is opened again.
type journal struct {
	mu      sync.Mutex
	file    *os.File
	records []Record
	have    map[key]int // index of the record
	broken  error       // of a write: behind half a line nothing may be written
}

func openJournal(dir string) (*journal, error) {
	const op = "trials"
	path := filepath.Join(dir, "trials.jsonl")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Fatal, op, err)
	}
	records, whole, err := readRecords(text)
	if err != nil {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, op, "%s: byte %d: %w", path, whole, err), "restore it from a copy, or begin anew with another --run")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	j := &journal{file: f, records: records, have: map[key]int{}}
	for i := range records {
		j.have[records[i].key()] = i
	}
	if err = f.Truncate(int64(whole)); err == nil {
		_, err = f.Seek(int64(whole), 0)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Fatal, op, err)
	}
	return j, nil
}

// readRecords reads whole lines and returns how many bytes they take. A last line without its end is left out; any other that is no
// record is an error, and so is one that is there twice.
func readRecords(text []byte) (records []Record, whole int, err error) {
	seen := map[key]bool{}
	for {
		end := bytes.IndexByte(text[whole:], '\n')
		if end < 0 {
			return records, whole, nil
		}
		var r Record
		d := json.NewDecoder(bytes.NewReader(text[whole : whole+end]))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return records, whole, err
		}
		if d.More() || !r.sound() {
			return records, whole, errors.New("the line is no record of a fit")
		}
		if seen[r.key()] {
			return records, whole, errors.New("the line repeats a fit")
		}
		seen[r.key()] = true
		records = append(records, r)
		whole += end + 1
	}
}

// find returns a finished measurement, nil when it is not there.
func (j *journal) find(k key) *Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i, ok := j.have[k]; ok {
		r := j.records[i]
		return &r
	}
	return nil
}

// elapsed returns the seconds of search that the records tell of.
func (j *journal) elapsed() (at float64) {
	for _, r := range j.records {
		at = max(at, r.At)
	}
	return at
}

// add makes a record durable. After it returns nil the record counts.
func (j *journal) add(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fault.New(fault.Fatal, "trials", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	failpoint.Hit("tune-before-record")
	if _, err = j.file.Write(append(line, '\n')); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = fault.WithHint(fault.New(fault.Fatal, "trials", err), "check the free space of the disk")
		return j.broken
	}
	failpoint.Hit("tune-after-record")
	j.have[r.key()] = len(j.records)
	j.records = append(j.records, r)
	return nil
}
