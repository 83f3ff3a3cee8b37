package dataset

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// splitFile is a split as JSON. Records are named by their row in the file of interactions, from 0 after the header, so that other
// programs can read it; rows of a part stand in the order of users and times.
type splitFile struct {
	Version    int     `json:"version"`
	Digest     string  `json:"digest"`
	Dataset    string  `json:"dataset"`
	MinRecords int     `json:"min_records"`
	TieSafe    bool    `json:"tie_safe,omitempty"`
	Sparse     bool    `json:"train_sparse,omitempty"`
	Sample     *Sample `json:"sample,omitempty"`
	Train      []int   `json:"train"` // without validation
	Val        []int   `json:"val"`
	Test       []int   `json:"test"`
}

// SaveFile writes the split as JSON, whole or not at all.
func (s *Split) SaveFile(path string, ds *Dataset) error {
	rows := func(recs []int32) []int {
		out := make([]int, len(recs))
		for i, r := range recs {
			out[i] = ds.Records[r].Row
		}
		return out
	}
	data, err := json.Marshal(splitFile{Version: 1, Digest: s.Digest, Dataset: ds.Name, MinRecords: s.Options.MinRecords, TieSafe: s.Options.TieSafe, Sparse: s.Options.TrainSparse,
		Sample: s.Sample, Train: rows(s.Train), Val: rows(s.Val), Test: rows(s.Test)})
	if err != nil {
		return fmt.Errorf("dataset: split: %w", err)
	}
	return durable.WriteFile(path, append(data, '\n'), 0o644)
}

// LoadFile reads a split that SaveFile wrote for the same data and verifies it: the split is made again by its settings, and its
// digest and rows must be those of the file.
func LoadFile(path string, ds *Dataset) (*Split, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset: split", err)
	}
	defer f.Close()
	var file splitFile
	dec := json.NewDecoder(io.LimitReader(f, 4<<30))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fault.Newf(fault.Fatal, "dataset: split", "%s: %w", path, err)
	}
	if file.Version != 1 {
		return nil, fault.Newf(fault.Fatal, "dataset: split", "%s: version %d is not known", path, file.Version)
	}
	s, err := MakeSplit(ds, SplitOptions{MinRecords: file.MinRecords, TieSafe: file.TieSafe, TrainSparse: file.Sparse})
	if err != nil {
		return nil, err
	}
	if file.Sample != nil {
		s = s.SampleUsers(ds, *file.Sample)
	}
	differ := func(what string) error {
		err := fault.Newf(fault.Fatal, "dataset: split", "%s was made for other data: its %s differ", path, what)
		return fault.WithHint(err, "restore the data it was made from, or start a new run")
	}
	if s.Digest != file.Digest {
		return nil, differ("digests")
	}
	for i, recs := range [][]int32{s.Train, s.Val, s.Test} {
		same := func(r int32, row int) bool { return ds.Records[r].Row == row }
		if !slices.EqualFunc(recs, [][]int{file.Train, file.Val, file.Test}[i], same) {
			return nil, differ("rows")
		}
	}
	return s, nil
}
