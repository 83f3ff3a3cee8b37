package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"recpie/recommender"
)

// peers hands the peers what the network sees and reads what they predict for the test records. They never get a test outcome.
func (s *set) peers(ctx context.Context) ([]row, error) {
	w := s.work
	both := slices.Concat(w.Split.Train, w.Split.Val)
	slices.Sort(both)
	for _, part := range []struct {
		name   string
		data   *recommender.Data
		recs   []int32
		labels bool
	}{
		{"train", w.Train.Net, w.Split.Train, true}, {"val", w.Train.Net, w.Split.Val, true},
		{"both", w.Final.Net, both, true}, {"test", w.Final.Net, w.Split.Test, false},
	} {
		if err := s.dump(part.name, part.data, part.recs, part.labels); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, s.python, filepath.Join("bench", "accuracy", "peer.py"), s.dir, fmt.Sprint(len(s.seeds)))
	cmd.Stderr = os.Stderr
	if out, err := cmd.Output(); err != nil {
		return nil, fmt.Errorf("peer.py: %w\n%s", err, out)
	}
	mf, err := s.answers("mf")
	if err != nil {
		return nil, err
	}
	trees, err := s.answers("lightgbm")
	if err != nil {
		return nil, err
	}
	return []row{{"matrix factorisation", mf}, {"LightGBM, same features", trees}, {"LightGBM, ensemble", [][]float32{mean(trees)}}}, nil
}

// dump writes the features, the base, user and item, and the outcomes of a part as plain little-endian numbers.
func (s *set) dump(name string, d *recommender.Data, recs []int32, labels bool) error {
	f, t := len(d.Features.Names), d.Text.Dim()
	x, base, ids := make([]float32, 0, len(recs)*(f+t)), make([]float32, 0, len(recs)), make([]int32, 0, 2*len(recs))
	row := make([]float32, t)
	for _, r := range recs {
		x = append(x, d.Features.Row(r)...)
		d.Text.Row(row, r)
		x = append(x, row...)
		base = append(base, d.Bias.Base[r])
		ids = append(ids, s.work.Data.Records[r].User, s.work.Data.Records[r].Item)
	}
	parts := map[string]any{"x": x, "base": base, "ids": ids}
	if labels {
		parts["y"] = s.work.Data.Labels(recs)
	}
	for kind, values := range parts {
		file, err := os.Create(filepath.Join(s.dir, name+"."+kind))
		if err != nil {
			return err
		}
		if err := binary.Write(file, binary.LittleEndian, values); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// answers reads the predictions of a peer, one block of test records per seed.
func (s *set) answers(name string) ([][]float32, error) {
	f, err := os.Open(filepath.Join(s.dir, name+".pred"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := len(s.work.Split.Test)
	if info.Size() == 0 || info.Size()%int64(4*n) != 0 {
		return nil, fmt.Errorf("%s has %d bytes for %d test records", f.Name(), info.Size(), n)
	}
	out := make([][]float32, info.Size()/int64(4*n))
	for k := range out {
		out[k] = make([]float32, n)
		if err := binary.Read(f, binary.LittleEndian, out[k]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
