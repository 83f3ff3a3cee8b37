package importer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
)

// stream is a source that makes its rows on the way: the shape of the paper's Amazon set, of any size.
type stream struct {
	records, users, items int
	files                 []dataset.FileReport
}

func (s *stream) Spec() dataset.Spec {
	return dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "price"}, Review: "review"}
}
func (s *stream) Files() []dataset.FileReport { return s.files }

func (s *stream) Items(_ context.Context, yield func([]dataset.Item) error) error {
	s.files = append(s.files, dataset.FileReport{Path: "items", Rows: s.items, Kept: s.items})
	for at := 0; at < s.items; at += 1000 {
		batch := make([]dataset.Item, 0, 1000)
		for i := at; i < min(at+1000, s.items); i++ {
			batch = append(batch, dataset.Item{ID: fmt.Sprintf("B%09d", i*7919%s.items), Title: fmt.Sprint("The Film of Number ", i), Categories: []string{"Movies & TV", "Drama"}, Price: "9.99"})
		}
		if err := yield(batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) Events(_ context.Context, yield func([]dataset.Event) error) error {
	s.files = append(s.files, dataset.FileReport{Path: "events", Rows: s.records, Kept: s.records})
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the plot was thin but acting carried every scene and music gave it a soul that few films of this kind ever reach while effects looked cheap")
	var text strings.Builder
	for at := 0; at < s.records; at += 1000 {
		batch := make([]dataset.Event, 0, 1000)
		for row := at; row < min(at+1000, s.records); row++ {
			text.Reset()
			for range 5 + rng.IntN(60) {
				text.WriteString(words[rng.IntN(len(words))])
				text.WriteByte(' ')
			}
			user := int(float64(s.users) * math.Pow(rng.Float64(), 1.6))
			batch = append(batch, dataset.Event{User: fmt.Sprintf("AE%026d", user), Item: fmt.Sprintf("B%09d", int(float64(s.items)*math.Pow(rng.Float64(), 3))),
				Rating: float64(1 + rng.IntN(5)), Time: 1.3e9 + int64(rng.IntN(4e8)), HasTime: true, Row: row, Outcomes: []dataset.Field{{Name: "review", Value: text.String()}, {Name: "verified", Value: "true"}}})
		}
		if err := yield(batch); err != nil {
			return err
		}
	}
	return nil
}

// peak returns the largest resident set since the last reset, in MiB.
func peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1024
}

func resetPeak(b *testing.B) {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Skip(err)
	}
}

// BenchmarkImport imports a stream and loads the result. RECPIE_SCALE is the number of records, else 200,000; users and items follow the paper's set.
func BenchmarkImport(b *testing.B) {
	n := 200_000
	if v := os.Getenv("RECPIE_SCALE"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		src := &stream{records: n, users: int(float64(n) * 6503429 / 17328314), items: max(1, int(float64(n)*747910/17328314))}
		o := Options{Format: "stream", Out: filepath.Join(b.TempDir(), "set"), Program: "bench", Open: func(formats.Options) (formats.Source, error) { return src, nil }}
		o.Filters = Filters{MinUser: 2, MinItem: 2}
		resetPeak(b)
		start := time.Now()
		m, err := Run(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "imported/s")
		b.ReportMetric(peak(b), "import-MiB")
		var size int64
		for _, f := range m.Files {
			size += f.Bytes
		}
		b.ReportMetric(float64(size)/float64(m.Counts.Kept), "B/record")
		resetPeak(b)
		start = time.Now()
		ds, _, err := dataset.Load(b.Context(), o.Out, dataset.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(ds.Records))/time.Since(start).Seconds(), "loaded/s")
		b.ReportMetric(peak(b), "load-MiB")
		b.ReportMetric(float64(m.Counts.Kept), "records")
	}
}
