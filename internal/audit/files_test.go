package audit

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"recpie/internal/fault"
)

func begin(t testing.TB, dir, digest string) *Journal {
	t.Helper()
	j, err := OpenJournal(filepath.Join(dir, "rows.jsonl"), digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// An audit that is cut short anywhere, in the middle of a line too, goes on and ends as an unbroken one.
func TestJournalGoesOn(t *testing.T) {
	cases := world(120, 3)
	at := func(from, to int) []Case { return cases[from:to] }
	net := &linear{weight: weights()}
	whole := t.TempDir()
	j := begin(t, whole, "d")
	if err := Run(t.Context(), net, plainThreshold(), j, len(cases), at, nil); err != nil {
		t.Fatal(err)
	}
	asked := net.asked
	want, err := os.ReadFile(filepath.Join(whole, "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 5, len(want) / 3, len(want) / 2, len(want) - 1, len(want)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), want[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		j := begin(t, dir, "d")
		if n := max(0, bytes.Count(want[:cut], []byte("\n"))-1); j.Done() != n {
			t.Errorf("cut at %d of %d bytes: %d rows, want %d", cut, len(want), j.Done(), n)
		}
		left := j.Done()
		told := 0
		net.asked = 0
		if err := Run(t.Context(), net, plainThreshold(), j, len(cases), at, func(n int) { told += n }); err != nil {
			t.Fatal(err)
		}
		if told != len(cases)-left || left > 0 && net.asked >= asked {
			t.Errorf("cut at %d: %d rows were there, %d were made with %d predictions of %d", cut, left, told, net.asked, asked)
		}
		got, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("cut at %d: the file is another, %v", cut, err)
		}
	}
	if other := begin(t, whole, "another"); other.Done() != 0 {
		t.Errorf("%d rows of another audit were taken over", other.Done())
	}
}

func TestJournalNamesABrokenLine(t *testing.T) {
	dir := t.TempDir()
	cases := world(2, 1)
	j := begin(t, dir, "d")
	if err := Run(t.Context(), &linear{}, plainThreshold(), j, len(cases), func(from, to int) []Case { return cases[from:to] }, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "rows.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	lines[2] = []byte("{\"record\":\"x\"}\n")
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	err = begin(t, dir, "d").Each(func(*Row) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "rows.jsonl:3") || !strings.Contains(fault.HintOf(err), "delete") {
		t.Errorf("%v", err)
	}
}

func TestVerdictsComeBackAndGoStale(t *testing.T) {
	cases := []Case{
		{Record: 3, Texts: Pair{"+comedy", "~war"}, Edit: signs{}},
		{Record: 9, Texts: Pair{"+bad", ""}, Edit: signs{}},
	}
	_, j := audited(t, &linear{weight: map[string]float64{"comedy": .1, "bad": -.1}}, cases, plainThreshold())
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	s := Subject{Network: "net", Explanations: "texts"}
	if err := WriteVerdicts(path, s, Plain, j); err != nil {
		t.Fatal(err)
	}
	v, err := ReadVerdicts(path, s, "audit again")
	if err != nil {
		t.Fatal(err)
	}
	for rec, want := range map[int32][2]string{3: {"", "inert"}, 9: {"contrary", ""}, 44: {"", ""}} {
		p, n := v.Hide(rec)
		for k, got := range []string{p, n} {
			if (got == "") != (want[k] == "") || !strings.HasPrefix(got, want[k]) {
				t.Errorf("record %d, %s: hidden as %q, want %q", rec, sides[k], got, want[k])
			}
		}
	}
	if p, _ := v.Hide(9); !strings.Contains(p, "0.2000") || !strings.Contains(p, "0.0010") {
		t.Errorf("the reason has no numbers: %s", p)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		s    Subject
		want string
	}{
		"another network":       {string(good), Subject{"other", "texts"}, "stale: the audited network"},
		"other explanations":    {string(good), Subject{"net", "other"}, "stale: the audited explanations"},
		"empty":                 {"", s, "line 1: the head"},
		"no JSON":               {"x\n", s, "line 1"},
		"another version":       {strings.Replace(string(good), `"recpie_verdicts":1`, `"recpie_verdicts":9`, 1), s, "recpie_verdicts is 9"},
		"a line is missing":     {string(good[:bytes.LastIndexByte(good[:len(good)-1], '\n')+1]), s, "1 of 2"},
		"a line is broken":      {strings.Replace(string(good), `"record":9`, `"record":`, 1), s, "line 3"},
		"an unknown verdict":    {strings.Replace(string(good), `"contrary"`, `"fine"`, 1), s, "line 3: no such verdict"},
		"there is no such file": {"-", s, "there is no audit"},
	} {
		path := filepath.Join(t.TempDir(), "verdicts.jsonl")
		if c.text != "-" {
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := ReadVerdicts(path, c.s, "audit again")
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) != "audit again" {
			t.Errorf("%s: %v, hint %q; want %q", name, err, fault.HintOf(err), c.want)
		}
	}
}

func TestExport(t *testing.T) {
	cases := world(4, 5)
	cases[0].UserID, cases[0].Texts[0] = "=1+1", "+comedy"
	_, j := audited(t, &linear{weight: weights()}, cases, plainThreshold())
	var rows []Row
	if err := j.Each(func(r *Row) error { rows = append(rows, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"a.jsonl", "a.csv", "a.parquet"} {
		if err := Export(Output{Path: filepath.Join(dir, name)}, j); err != nil {
			t.Fatal(name, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "a.jsonl"))
	if err != nil || bytes.Count(b, []byte("\n")) != len(cases) || !bytes.Contains(b, []byte(`"user_id":"=1+1"`)) {
		t.Errorf("JSON lines: %v\n%s", err, b)
	}
	f, err := os.Open(filepath.Join(dir, "a.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := csv.NewReader(f).ReadAll()
	if err != nil || len(table) != 1+len(cases) || len(table[0]) != 8+len(Interventions)+4 {
		t.Fatalf("CSV: %v, %d lines", err, len(table))
	}
	if table[1][0] != "'=1+1" || table[1][11] != "" || table[2][11] == "" || !strings.HasPrefix(table[1][20], `[{"sentence":"positive","aspect":"comedy"`) {
		t.Errorf("CSV: %q", table[:3])
	}
	got, err := parquet.ReadFile[flat](filepath.Join(dir, "a.parquet"))
	if err != nil || len(got) != len(cases) {
		t.Fatalf("Parquet: %v, %d rows", err, len(got))
	}
	for i, r := range got {
		want := rows[i]
		if r.User != want.User || *r.Blanked != want.Changes[Blanked] || r.Verdict != string(want.Verdict) || len(r.Reasons) != len(want.Reasons) || (r.SwappedUser == nil) != (cases[i].Other == nil) {
			t.Errorf("Parquet: %+v, want %+v", r, want)
		}
	}
	for _, o := range []Output{{Path: "x.txt"}, {Path: "x"}, {Path: "x.csv", Format: "xml"}} {
		if err := o.Check(); err == nil || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if f, err := (Output{Path: "-"}).format(); err != nil || f != "jsonl" {
		t.Errorf("standard output: %s, %v", f, err)
	}
}

// Whatever stands in a file of verdicts, it is read whole or refused.
func FuzzReadVerdicts(f *testing.F) {
	s := Subject{"n", "e"}
	head := `{"recpie_verdicts":1,"network":"n","explanations":"e","threshold":0.1,"records":1}` + "\n"
	f.Add(head + `{"record":3,"positive":"inert","negative":"","positive_moves":0.01,"negative_moves":0}`)
	f.Add(head)
	f.Add("{}")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := readVerdicts(strings.NewReader(text), s)
		if err != nil {
			return
		}
		if v.Subject != s || v.By == nil {
			t.Fatalf("%+v of %q", v, text)
		}
		for rec, x := range v.By {
			p, n := v.Hide(rec)
			if (p == "") != (x.Positive == Faithful || x.Positive == Absent) || (n == "") != (x.Negative == Faithful || x.Negative == Absent) {
				t.Fatalf("%+v is hidden as %q, %q", x, p, n)
			}
		}
	})
}
