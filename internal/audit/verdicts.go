package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// Subject names what was audited. Verdicts on another network or other explanations say nothing.
type Subject struct {
	Network      string `json:"network"`      // digest of its weights and inputs
	Explanations string `json:"explanations"` // digest of all sentences
}

// Judged is the verdict on a record's sentences with the change that it rests on: how far the prediction moves when the sentence is taken away
// or says the opposite, whichever is more.
type Judged struct {
	Record        int32   `json:"record"`
	Positive      Verdict `json:"positive"`
	Negative      Verdict `json:"negative"`
	PositiveMoves float64 `json:"positive_moves"`
	NegativeMoves float64 `json:"negative_moves"`
}

// Verdicts are those of an audit, by record.
type Verdicts struct {
	Subject
	Threshold float64
	By        map[int32]Judged
}

type verdictsHead struct {
	Version int `json:"recpie_verdicts"`
	Subject
	Threshold float64 `json:"threshold"`
	Records   int     `json:"records"`
}

const verdictsVersion = 1

// WriteVerdicts writes the verdicts of a journal as JSON lines, a head first. The file appears whole.
func WriteVerdicts(path string, s Subject, threshold float64, j *Journal) error {
	return durable.Write(path, 0o644, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		e := json.NewEncoder(b)
		if err := e.Encode(verdictsHead{verdictsVersion, s, threshold, j.Done()}); err != nil {
			return err
		}
		err := j.Each(func(r *Row) error {
			return e.Encode(Judged{r.Record, r.PositiveVerdict, r.NegativeVerdict, r.moved(0), r.moved(1)})
		})
		if err != nil {
			return err
		}
		return b.Flush()
	})
}

// ReadVerdicts reads verdicts and refuses those on another subject than s. hint says how to make new ones.
func ReadVerdicts(path string, s Subject, hint string) (*Verdicts, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "verdicts", "there is no audit: %s does not exist", path), hint)
	}
	if err != nil {
		return nil, fault.New(fault.Fatal, "verdicts", err)
	}
	defer f.Close()
	v, err := readVerdicts(f, s)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "verdicts: "+path, err), hint)
	}
	return v, nil
}

func readVerdicts(r io.Reader, s Subject) (*Verdicts, error) {
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		return nil, errors.Join(lines.Err(), errors.New("line 1: the head is missing"))
	}
	var head verdictsHead
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	switch {
	case head.Version != verdictsVersion:
		return nil, fmt.Errorf("line 1: recpie_verdicts is %d, this program reads %d", head.Version, verdictsVersion)
	case head.Network != s.Network:
		return nil, fmt.Errorf("they are stale: the audited network is %.12s, that of the run is %.12s", head.Network, s.Network)
	case head.Explanations != s.Explanations:
		return nil, fmt.Errorf("they are stale: the audited explanations are %.12s, those of the run are %.12s", head.Explanations, s.Explanations)
	}
	v := &Verdicts{Subject: head.Subject, Threshold: head.Threshold, By: map[int32]Judged{}}
	for n := 2; lines.Scan(); n++ {
		var x Judged
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, verdict := range []Verdict{x.Positive, x.Negative} {
			if verdict != Faithful && verdict != Inert && verdict != Contrary && verdict != Absent {
				return nil, fmt.Errorf("line %d: no such verdict: %.20q", n, verdict)
			}
		}
		v.By[x.Record] = x
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(v.By) != head.Records {
		return nil, fmt.Errorf("it holds %d of %d records", len(v.By), head.Records)
	}
	return v, nil
}

// Hide says why the sentences of a record should not be shown, "" for one that may be: it is faithful, absent or was not audited.
func (v *Verdicts) Hide(record int32) (positive, negative string) {
	x := v.By[record]
	return v.reason(x.Positive, x.PositiveMoves), v.reason(x.Negative, x.NegativeMoves)
}

func (v *Verdicts) reason(verdict Verdict, moves float64) string {
	switch verdict {
	case Inert:
		return fmt.Sprintf("inert: without it, or with its opposite, the prediction moves by %.4f at most, which is not above %.4f", moves, v.Threshold)
	case Contrary:
		return fmt.Sprintf("contrary: its opposite moves the prediction the way that it should itself (by up to %.4f, threshold %.4f)", moves, v.Threshold)
	}
	return ""
}
