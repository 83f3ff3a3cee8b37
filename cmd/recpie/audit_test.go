package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"recpie/internal/audit"
	"recpie/internal/evaluate"
	"recpie/orchestrator"
)

// An audit of a finished run goes on after a kill, and its verdicts decide what predict shows.
func TestAudit(t *testing.T) {
	w := unbroken(t)
	report, err := evaluate.ReadReport(w.path("run"))
	if err != nil {
		t.Fatal(err)
	}
	s := w.again(t)
	if err := os.CopyFS(s.path("run"), os.DirFS(w.path("run"))); err != nil {
		t.Fatal(err)
	}
	if o := recpie(t, s.dir, s.env, "predict", "--run", "run", "--hide-unfaithful"); o.code != exitFailed || !strings.Contains(o.stderr, "recpie audit run") {
		t.Errorf("without an audit: %d, %s", o.code, o.stderr)
	}
	if o := recpie(t, s.dir, append(s.env, "RECPIE_FAILPOINT=audit-appended"), "audit", "run"); o.code != -1 {
		t.Fatalf("was not killed: %d, %s", o.code, o.stderr)
	}
	if exists(s.path("run", "audit", "verdicts.jsonl")) {
		t.Error("a killed audit has verdicts")
	}
	before, err := os.ReadFile(s.path("run", "audit", "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var sum audit.Summary
	o := must(t, s.dir, s.env, "audit", "--run", "run", "--out", "rows.csv", "-o", "json")
	if err := json.Unmarshal([]byte(o.stdout), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Records != report.NTest || len(sum.Plain) == 0 || sum.Threshold.Noise == nil || sum.Run != "run" {
		t.Errorf("%+v", sum)
	}
	after, err := os.ReadFile(s.path("run", "audit", "rows.jsonl"))
	if err != nil || string(before) != string(after) {
		t.Errorf("rows were made again: %v", err)
	}
	for _, name := range []string{"audit.html", "summary.json", "verdicts.jsonl"} {
		if !exists(s.path("run", "audit", name)) {
			t.Errorf("no %s", name)
		}
	}
	f, err := os.Open(s.path("rows.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if table, err := csv.NewReader(f).ReadAll(); err != nil || len(table) != 1+report.NTest {
		t.Errorf("%d lines, %v", len(table), err)
	}

	var shown, veiled []orchestrator.Prediction
	if err := json.Unmarshal([]byte(must(t, s.dir, s.env, "predict", "--run", "run", "-o", "json").stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(must(t, s.dir, append(s.env, "RECPIE_SERVE_HIDE_UNFAITHFUL=true"), "predict", "--run", "run", "-o", "json").stdout), &veiled); err != nil {
		t.Fatal(err)
	}
	hidden := 0
	for i, p := range veiled {
		if p.Rating != shown[i].Rating || shown[i].Hidden != nil {
			t.Errorf("hiding changes more than what is shown: %+v, %+v", p, shown[i])
		}
		h := orchestrator.Hidden{}
		if p.Hidden != nil {
			h = *p.Hidden
		}
		for _, side := range [][3]string{{shown[i].Positive, p.Positive, h.Positive}, {shown[i].Negative, p.Negative, h.Negative}} {
			if side[2] != "" {
				hidden++
			}
			if (side[2] != "") != (side[1] == "" && side[0] != "") || side[2] == "" && side[0] != side[1] {
				t.Errorf("%q is shown as %q because it is %q", side[0], side[1], side[2])
			}
		}
	}
	p, n := sum.Verdicts["positive"], sum.Verdicts["negative"]
	if flagged := float64(p.N)*(1-p.Faithful) + float64(n.N)*(1-n.Faithful); hidden == 0 || float64(hidden) < flagged-.5 || float64(hidden) > flagged+.5 {
		t.Errorf("%d sentences are hidden, %g are flagged", hidden, flagged)
	}
	table, err := csv.NewReader(strings.NewReader(must(t, s.dir, s.env, "predict", "--run", "run", "--hide-unfaithful").stdout)).ReadAll()
	if err != nil || table[0][8] != "positive_hidden" {
		t.Errorf("%q, %v", table[0], err)
	}
	rows := must(t, s.dir, s.env, "audit", "run", "--sample", "5", "--out", "-")
	if strings.Count(rows.stdout, "\n") != 5 || !strings.Contains(rows.stderr, "Of 5 predictions") {
		t.Errorf("to standard output: %s\n%s", rows.stdout, rows.stderr)
	}
}

func TestAuditSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	must(t, dir, nil, "train", "--explanations", "off", "--data", "p", "--run", "alone", "--network-seeds", "1", "--set", "recommender.epochs=1")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"nowhere"}, exitUsage, "nowhere"},
		{[]string{"alone"}, exitFailed, "--explanations on"},
		{[]string{"alone", "--out", "rows.xml"}, exitUsage, ".parquet"},
		{[]string{"alone", "--sample", "-1"}, exitUsage, "--sample"},
		{[]string{"alone", "--threshold", "1"}, exitUsage, "--threshold"},
	} {
		o := recpie(t, dir, nil, append([]string{"audit"}, c.args...)...)
		if o.code != c.code || !strings.Contains(o.stderr, c.says) {
			t.Errorf("audit %v: %d, %s", c.args, o.code, o.stderr)
		}
	}
	if exists(dir + "/nowhere") {
		t.Error("a run directory was made")
	}
}
