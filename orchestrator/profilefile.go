package orchestrator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"recpie/internal/fault"
)

// profileLine is a profile as it travels to another machine.
type profileLine struct {
	Side    string `json:"side"`
	Item    string `json:"item_id"`
	Fold    int32  `json:"fold"`
	Profile string `json:"profile"`
}

// Profiled says whether prompts show profiles that a model wrote.
func (w *Workspace) Profiled() bool { return w.written }

// WriteProfiles writes the profiles that a model wrote as JSON lines, whose bytes depend on them alone.
func (w *Workspace) WriteProfiles(out io.Writer) error {
	b := bufio.NewWriter(out)
	e := json.NewEncoder(b)
	for _, side := range w.sides() {
		it := side.Items
		if it == nil {
			continue
		}
		for _, k := range sortedKnown(it.profiles) {
			if err := e.Encode(profileLine{w.nameOf(side), w.Data.Items[k.item].ID, k.fold, it.profiles[k]}); err != nil {
				return fault.New(fault.Fatal, "profiles", err)
			}
		}
	}
	return fault.New(fault.Fatal, "profiles", b.Flush())
}

// ReadProfiles makes prompts show the profiles that WriteProfiles wrote from the same data and settings.
func (w *Workspace) ReadProfiles(ctx context.Context, in io.Reader) error {
	const op = "profiles"
	if err := w.knowItems(ctx); err != nil {
		return err
	}
	item := make(map[string]int32, len(w.Data.Items))
	for i, it := range w.Data.Items {
		item[it.ID] = int32(i)
	}
	sides := map[string]*Side{}
	for _, side := range w.sides() {
		sides[w.nameOf(side)] = side
		side.Items.profiles = map[knownItem]string{}
	}
	d := json.NewDecoder(bufio.NewReader(in))
	for n := 1; ; n++ {
		var l profileLine
		err := d.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		i, ok := item[l.Item]
		side := sides[l.Side]
		if err != nil || !ok || side == nil || l.Fold < 0 || l.Fold > side.Items.whole(i).fold || l.Profile == "" {
			return fault.WithHint(fault.Newf(fault.Fatal, op, "line %d of the profiles is of no item of %s: %+v %v", n, w.Data.Name, l, err), "use the data that the profiles were written for")
		}
		side.Items.profiles[knownItem{i, l.Fold}] = l.Profile
	}
	return w.profilesChanged()
}

// profilesChanged lets prompts show the profiles that the sides hold now.
func (w *Workspace) profilesChanged() error {
	w.written = true
	for _, side := range w.sides() {
		side.Items.sum(w.seed)
	}
	return w.render()
}

// sortedKnown lists the items of a table, in order.
func sortedKnown[V any](all map[knownItem]V) []knownItem {
	keys := make([]knownItem, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, knownItem.compare)
	return keys
}
