package ranking

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"recpie/internal/dataset"
	"recpie/internal/durable"
	"recpie/internal/fault"
)

// head is the first line of a candidates file. A line for each list follows: {"user","item","uniform","popular"}, all of them ids.
type head struct {
	Version  int      `json:"recpie_candidates"`
	Split    string   `json:"split_digest"`
	Settings Settings `json:"settings"`
	Lists    int      `json:"lists"`
	Digest   string   `json:"digest"` // of split, settings and lines
}

type row struct {
	User    string   `json:"user"`
	Item    string   `json:"item"` // that the user likes
	Uniform []string `json:"uniform"`
	Popular []string `json:"popular"`
}

const (
	fileVersion = 1
	longestLine = 16 << 20
)

const op = "ranking: candidates"

// Open reads the lists of a run from path; when there are none yet, it draws and stores them. Lists of another split or with other settings
// are refused: models that ranked them cannot be compared with those to come.
func Open(path string, view *dataset.View, s Settings) (*Lists, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		l, err := Draw(view, s)
		if err != nil {
			return nil, err
		}
		return l, l.Save(path, view.Dataset())
	}
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	h, rows, err := parse(b)
	if err == nil {
		var l *Lists
		if l, err = resolve(h, rows, view, s); err == nil {
			return l, nil
		}
	}
	return nil, fault.WithHint(fault.Newf(fault.Fatal, op, "%s: %w", path, err), "lists of another run or cut short: remove the file together with the run's networks, or begin a new run")
}

// Save writes the lists, whole or not at all.
func (l *Lists) Save(path string, ds *dataset.Dataset) error {
	return fault.New(fault.Fatal, op, durable.Write(path, 0o644, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		first, err := json.Marshal(head{fileVersion, l.Split, l.Settings, len(l.All), l.Digest})
		if err != nil {
			return err
		}
		_, _ = out.Write(append(first, '\n'))
		l.lines(ds, func(line []byte) { _, _ = out.Write(line) })
		return out.Flush()
	}))
}

// lines gives the lines of the file behind the first.
func (l *Lists) lines(ds *dataset.Dataset, yield func([]byte)) {
	for _, list := range l.All {
		rec := ds.Records[list.Record]
		r := row{User: ds.Users[rec.User], Item: ds.Items[rec.Item].ID}
		for d, to := range [len(Draws)]*[]string{&r.Uniform, &r.Popular} {
			for _, i := range list.Negatives[d] {
				*to = append(*to, ds.Items[i].ID)
			}
		}
		line, _ := json.Marshal(r) // strings always marshal
		yield(append(line, '\n'))
	}
}

func (l *Lists) digest(ds *dataset.Dataset) string {
	h := sha256.New()
	fmt.Fprintf(h, "recpie candidates %d\n%s\n%+v\n", fileVersion, l.Split, l.Settings)
	l.lines(ds, func(line []byte) { _, _ = h.Write(line) })
	return hex.EncodeToString(h.Sum(nil))
}

// parse reads a file without looking at any data. Errors name the line and what is wrong with it.
func parse(b []byte) (h head, rows []row, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(make([]byte, 0, 64<<10), longestLine)
	into := func(v any, no int) error {
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil {
			return fmt.Errorf("line %d: %w", no, err)
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: something follows the object", no)
		}
		return nil
	}
	for no := 1; lines.Scan(); no++ {
		if no == 1 {
			if err := into(&h, no); err != nil {
				return h, nil, err
			}
			if h.Version != fileVersion {
				return h, nil, fmt.Errorf("line 1: recpie_candidates is %d, this program reads %d", h.Version, fileVersion)
			}
			continue
		}
		var r row
		if err := into(&r, no); err != nil {
			return h, nil, err
		}
		if r.User == "" || r.Item == "" || len(r.Uniform) == 0 || len(r.Popular) == 0 {
			return h, nil, fmt.Errorf("line %d: user, item, uniform and popular are all needed", no)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		return h, nil, err
	}
	if h.Version == 0 {
		return h, nil, errors.New("the file is empty")
	}
	if len(rows) != h.Lists {
		return h, nil, fmt.Errorf("line 1 promises %d lists, the file holds %d", h.Lists, len(rows))
	}
	return h, rows, nil
}

// resolve finds users, records and items of the lines in the data and holds them to what the lists promise.
func resolve(h head, rows []row, view *dataset.View, s Settings) (*Lists, error) {
	ds, split := view.Dataset(), view.Split()
	if h.Split != split.Digest {
		return nil, fmt.Errorf("split_digest is %.12s, that of the data %.12s", h.Split, split.Digest)
	}
	if h.Settings != s {
		return nil, fmt.Errorf("settings are %+v, wanted are %+v", h.Settings, s)
	}
	users, items := map[string]int32{}, map[string]int32{}
	for u, id := range ds.Users {
		users[id] = int32(u)
	}
	for i, it := range ds.Items {
		items[it.ID] = int32(i)
	}
	l := &Lists{Settings: s, Split: h.Split, Digest: h.Digest}
	for k, r := range rows {
		no := k + 2
		u, ok := users[r.User]
		if !ok {
			return nil, fmt.Errorf("line %d: user %q is not in the data", no, r.User)
		}
		from, to := ds.OfUser(u)
		own := map[int32]int32{} // items to records
		for rec := from; rec < to; rec++ {
			own[ds.Records[rec].Item] = rec
		}
		item, known := items[r.Item]
		rec, rated := own[item]
		if _, test := slices.BinarySearch(split.Test, rec); !known || !rated || !test {
			return nil, fmt.Errorf("line %d: user %q has no test record of item %q", no, r.User, r.Item)
		}
		list := List{Record: rec}
		for d, ids := range [len(Draws)][]string{r.Uniform, r.Popular} {
			for _, id := range ids {
				i, ok := items[id]
				if _, rated := own[i]; !ok || rated {
					return nil, fmt.Errorf("line %d: %s: item %q is not in the data, or user %q has a record of it", no, Draws[d], id, r.User)
				}
				list.Negatives[d] = append(list.Negatives[d], i)
			}
		}
		l.All = append(l.All, list)
	}
	if sum := l.digest(ds); sum != h.Digest {
		return nil, fmt.Errorf("the lines have digest %.12s, line 1 says %.12s", sum, h.Digest)
	}
	return l, nil
}
