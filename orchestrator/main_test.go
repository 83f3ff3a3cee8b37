package orchestrator

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"recpie/internal/dataset"
	"recpie/internal/dataset/planted"
	"recpie/internal/torch/reexec"
	"recpie/prompts"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// restaurants is a data set whose terms come from item metadata.
func restaurants(t *testing.T) *dataset.Dataset {
	t.Helper()
	d, err := planted.New(planted.Config{Seed: 4, Users: 14, Items: 30, PerUser: 12})
	if err != nil {
		t.Fatal(err)
	}
	return d.Dataset
}

// reviewed is a data set whose terms come from reviews.
func reviewed(t *testing.T) *dataset.Dataset {
	t.Helper()
	plain := restaurants(t)
	words := []string{"service", "breakfast", "location", "bathroom", "staff", "garden"}
	var events []dataset.Event
	all := plain.Labels(indexes(len(plain.Records)))
	for i, r := range plain.Records {
		text := fmt.Sprintf("The %s and the %s were remarkable. I remember the %s.", words[i%6], words[(i/6+int(r.Item))%6], words[int(r.Item)%6])
		events = append(events, dataset.Event{User: plain.Users[r.User], Item: plain.Items[r.Item].ID, Rating: plain.Spec.Rating(float64(all[i])), Time: r.Time, HasTime: true, Row: i,
			Outcomes: []dataset.Field{{Name: "review", Value: text}}})
	}
	ds, err := dataset.New("reviewed", dataset.Spec{Domain: "hotel", Verb: "stayed at this hotel", Min: 1, Max: 5, Review: "review"}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func indexes(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

func workspace(t *testing.T, ds *dataset.Dataset) *Workspace {
	t.Helper()
	w, err := PrepareData(context.Background(), ds, nil, DataSettings{Seed: 2, Prompts: prompts.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	return w
}
