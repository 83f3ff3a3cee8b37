package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"sort"

	"recpie/internal/batchfile"
	"recpie/internal/dataset"
	"recpie/internal/fault"
	"recpie/orchestrator"
	"recpie/prompts"
)

// asked is what a batch of pairs asks for, row by row. It holds 4 bytes for a pair, 5 more where some lines ask for one sentence only,
// and the custom_ids, where there are any, in a file.
type asked struct {
	recs  []int32          // per line, or pair of the split, its record
	pols  []int8           // per line its polarity; nil: both sentences of all
	first []int32          // per line its first row; nil with pols
	ids   *batchfile.Spool // per line its custom_id; nil: none has one
}

// maxPairs keeps the numbers of rows and records in 32 bits.
const maxPairs = 1 << 29

// add takes a line of an input; the record of its pair is known later.
func (a *asked) add(l batchfile.Line) error {
	n := len(a.recs)
	if n >= maxPairs {
		return fault.Newf(fault.Fatal, "input", "there are more than %d pairs: divide them into several batches", maxPairs)
	}
	a.recs = append(a.recs, -1)
	if l.Polarity != batchfile.Both && a.pols == nil {
		a.pols, a.first = make([]int8, n, 2*n+1), make([]int32, n, 2*n+1)
		for i := range n {
			a.pols[i], a.first[i] = batchfile.Both, int32(2*i)
		}
	}
	if a.pols != nil {
		a.pols, a.first = append(a.pols, l.Polarity), append(a.first, int32(a.rowsOf(n)))
	}
	if l.ID != "" && a.ids == nil {
		var err error
		if a.ids, err = batchfile.NewSpool(); err != nil {
			return err
		}
		for range n {
			if err := a.ids.Add(nil); err != nil {
				return err
			}
		}
	}
	if a.ids != nil {
		return a.ids.Add([]byte(l.ID))
	}
	return nil
}

// rowsOf is the number of rows of the first n lines.
func (a *asked) rowsOf(n int) int {
	switch {
	case a.pols == nil:
		return 2 * n
	case n == 0:
		return 0
	case a.pols[n-1] == batchfile.Both:
		return int(a.first[n-1]) + 2
	default:
		return int(a.first[n-1]) + 1
	}
}

// rows is how many sentences are asked for.
func (a *asked) rows() int { return a.rowsOf(len(a.recs)) }

// pairs tells whether every line asks for both sentences.
func (a *asked) pairs() bool { return a.pols == nil }

// at returns what a row asks for, and its line.
func (a *asked) at(row int) (orchestrator.Ask, int) {
	if a.pols == nil {
		return orchestrator.Ask{Record: a.recs[row/2], Polarity: prompts.Polarities[row%2]}, row / 2
	}
	line := sort.Search(len(a.first), func(i int) bool { return int(a.first[i]) > row }) - 1
	pol := a.pols[line]
	if pol == batchfile.Both {
		pol = int8(row - int(a.first[line]))
	}
	return orchestrator.Ask{Record: a.recs[line], Polarity: prompts.Polarity(pol)}, line
}

// all yields every row in order.
func (a *asked) all() iter.Seq[orchestrator.Ask] {
	return func(yield func(orchestrator.Ask) bool) {
		for line, rec := range a.recs {
			for _, pol := range prompts.Polarities {
				if a.pols != nil && a.pols[line] != batchfile.Both && a.pols[line] != int8(pol) {
					continue
				}
				if !yield(orchestrator.Ask{Record: rec, Polarity: pol}) {
					return
				}
			}
		}
	}
}

// id returns the custom_id of a line, "" when it has none.
func (a *asked) id(line int) (string, error) {
	if a.ids == nil {
		return "", nil
	}
	id, err := a.ids.At(int64(line))
	return string(id), err
}

// write writes the lines of an input as every machine reads them: JSON lines.
func (a *asked) write(w io.Writer, ds *dataset.Dataset) error {
	e := json.NewEncoder(w)
	for i, r := range a.recs {
		id, err := a.id(i)
		if err != nil {
			return err
		}
		line := struct {
			ID       string `json:"custom_id,omitempty"`
			Item     string `json:"item_id"`
			Polarity string `json:"polarity,omitempty"`
			User     string `json:"user_id"`
		}{ID: id, Item: ds.Items[ds.Records[r].Item].ID, User: ds.Users[ds.Records[r].User]}
		if a.pols != nil && a.pols[i] != batchfile.Both {
			line.Polarity = prompts.Polarity(a.pols[i]).String()
		}
		if err := e.Encode(line); err != nil {
			return fault.New(fault.Fatal, "input", err)
		}
	}
	return nil
}

// requests are the lines of an OpenAI batch file, bodies in their one form, in a file.
type requests struct {
	lines   *batchfile.Spool
	letters int64 // of all lines
}

// requestLine is a line as it is kept, which can be read as one of a batch file again.
type requestLine struct {
	ID     string          `json:"custom_id"`
	Method string          `json:"method"`
	URL    string          `json:"url"`
	Body   json.RawMessage `json:"body"`
}

func newRequests() (*requests, error) {
	s, err := batchfile.NewSpool()
	return &requests{lines: s}, err
}

func (r *requests) add(l batchfile.Line) error {
	text, err := json.Marshal(requestLine{l.ID, "POST", l.URL, l.Body})
	if err != nil {
		return fault.New(fault.Fatal, "input", err)
	}
	r.letters += int64(len(text)) + 1
	return r.lines.Add(text)
}

func (r *requests) rows() int { return int(r.lines.Len()) }

// at returns request n.
func (r *requests) at(n int64) (l requestLine, err error) {
	text, err := r.lines.At(n)
	if err == nil {
		err = fault.New(fault.Fatal, "input", json.Unmarshal(text, &l))
	}
	return l, err
}

// call is at as the batch engine's handler wants it.
func (r *requests) call(n int64) (orchestrator.Call, error) {
	l, err := r.at(n)
	if err != nil {
		return orchestrator.Call{}, err
	}
	var about struct {
		User string `json:"user"`
	}
	if err := json.Unmarshal(l.Body, &about); err != nil {
		return orchestrator.Call{}, fault.New(fault.Fatal, "input", err)
	}
	return orchestrator.Call{Path: l.URL, Body: l.Body, User: about.User}, nil
}

// write writes the lines as every machine reads them.
func (r *requests) write(w io.Writer) error {
	for n := range r.lines.Len() {
		text, err := r.lines.At(n)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}
