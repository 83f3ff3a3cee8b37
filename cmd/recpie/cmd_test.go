package main

import (
	"encoding/csv"
	"encoding/json"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"recpie/internal/dataset"
	"recpie/internal/dataset/planted"
	"recpie/internal/evaluate"
	"recpie/orchestrator"
)

func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q", cmd.CommandPath(), cmd.Short)
		}
		if !strings.Contains(cmd.Example, "  recpie ") {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: example %q is not indented", cmd.CommandPath(), line)
			}
			checkExample(t, line)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
}

// checkExample parses the command line of an example: command, flags and arguments exist.
func checkExample(t *testing.T, line string) {
	t.Helper()
	text, _, _ := strings.Cut(strings.TrimSpace(line), "   ") // what follows is said about it
	text, _, _ = strings.Cut(text, " > ")
	text, _, _ = strings.Cut(text, " | ")
	if strings.Contains(text, "$(") || strings.HasPrefix(text, "export ") {
		return
	}
	words := strings.Fields(text)
	cmd, rest, err := newRoot().Find(words[1:])
	if err != nil || words[0] != "recpie" {
		t.Errorf("example %q: %v", line, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("example %q: %v", line, err)
		return
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("example %q: %v", line, err)
	}
}

func TestHelp(t *testing.T) {
	o := must(t, t.TempDir(), nil, "--help")
	for _, want := range []string{"train", "explain", "predict", "evaluate", "data", "lm", "doctor", "config", "version", "--config", "--set", "--run", "Usage:", "Examples:"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("help does not say %s", want)
		}
	}
	if o.stderr != "" {
		t.Errorf("help writes to stderr: %s", o.stderr)
	}
	if o := must(t, t.TempDir(), nil, "train", "--help"); !strings.Contains(o.stdout, "[policy.rounds]") || !strings.Contains(o.stdout, "(default 2)") {
		t.Errorf("help of train does not name settings and defaults:\n%s", o.stdout)
	}
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("unknown.yaml", "seed: 1\npolcy:\n  rounds: 2\n")
	write("type.yaml", "policy:\n  rounds: 2\n  steps: many\n")
	write("broken.yaml", "policy: [\n")
	write("space.yaml", "recommender.dim: 8..64\nrecommender.loss: choice:mse,bce\n")
	write("good.yaml", "policy: {rounds: 3}\n")
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string // on stderr, or stdout when the code is 0
	}{
		{"version", nil, []string{"version"}, 0, []string{"recpie"}},
		{"no command", nil, nil, 0, []string{"Usage:"}},
		{"unknown command", nil, []string{"trian"}, 2, []string{"trian", "train"}},
		{"unknown command of a group", nil, []string{"config", "vaildate"}, 2, []string{"vaildate", "validate"}},
		{"unknown flag", nil, []string{"train", "--rouns", "2"}, 2, []string{"--rouns"}},
		{"flag of a wrong type", nil, []string{"train", "--rounds", "two"}, 2, []string{"rounds", "two"}},
		{"too many arguments", nil, []string{"train", "now"}, 2, []string{"now"}},
		{"missing argument", nil, []string{"data", "check"}, 2, []string{"arg"}},
		{"output", nil, []string{"config", "show", "-o", "xml"}, 2, []string{"xml"}},
		{"set without value", nil, []string{"config", "show", "--set", "seed"}, 2, []string{"key=value"}},
		{"set of an unknown key", nil, []string{"config", "show", "--set", "policy.round=3"}, 2, []string{"policy.round", "policy.rounds"}},
		{"unknown key", nil, []string{"config", "validate", "-c", "unknown.yaml"}, 2, []string{"unknown.yaml:2", "polcy", "policy"}},
		{"wrong type", nil, []string{"config", "validate", "-c", "type.yaml"}, 2, []string{"type.yaml:3", "steps", "many"}},
		{"broken file", nil, []string{"train", "-c", "broken.yaml"}, 2, []string{"broken.yaml"}},
		{"no such file", nil, []string{"train", "-c", "nowhere.yaml"}, 2, []string{"nowhere.yaml"}},
		{"environment", []string{"RECPIE_SEED=x"}, []string{"config", "show"}, 2, []string{"RECPIE_SEED"}},
		{"preset", nil, []string{"config", "show", "--preset", "gpt-9"}, 2, []string{"gpt-9", "gpt2"}},
		{"valid", nil, []string{"config", "validate", "-c", "good.yaml"}, 0, []string{"valid"}},
		{"no data", nil, []string{"train", "--data", "nowhere"}, 1, []string{"nowhere"}},
		{"no run", nil, []string{"predict", "--run", "nowhere"}, 2, []string{"nowhere"}},
		{"no servers", nil, []string{"doctor"}, 1, []string{"inference.endpoints"}},
		{"space without a range", nil, []string{"tune", "--space", "recommender.dim"}, 2, []string{"--space", "recommender.dim"}},
		{"space of an unknown setting", nil, []string{"tune", "--space", "recommender.dmi=1..2"}, 2, []string{"recommender.dmi", "recommender.dim"}},
		{"space of impossible values", nil, []string{"tune", "--space", "recommender.dropout=0..2"}, 2, []string{"recommender.dropout", "[0, 1)"}},
		{"space of another section", nil, []string{"tune", "--space", "policy.rounds=1..2"}, 2, []string{"policy.rounds"}},
		{"space file", nil, []string{"tune", "--space-file", "space.yaml"}, 2, []string{"space.yaml:2", "recommender.loss"}},
		{"no trials", nil, []string{"tune", "--trials", "0"}, 2, []string{"--trials", "--budget"}},
		{"planted without a folder", nil, []string{"data", "planted"}, 2, []string{"--out"}},
		{"planted of an impossible size", nil, []string{"data", "planted", "--out", "p", "--per-user", "500"}, 2, []string{"500"}},
		{"key that is not set", nil, []string{"lm", "serve", "--key-env", "NO_SUCH_KEY"}, 2, []string{"NO_SUCH_KEY"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := recpie(t, dir, c.env, c.args...)
			if o.code != c.code {
				t.Errorf("exit code %d, want %d", o.code, c.code)
			}
			text := o.stderr
			if c.code == 0 {
				text = o.stdout
			} else if o.stdout != "" {
				t.Errorf("an error writes to stdout: %s", o.stdout)
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q: %s", want, text)
				}
			}
			if strings.Contains(text, "goroutine ") {
				t.Errorf("it panics: %s", text)
			}
		})
	}
}

// What config show prints is a settings file that means the same.
func TestConfigShowComesBack(t *testing.T) {
	dir := t.TempDir()
	first := must(t, dir, nil, "config", "show", "--preset", "llama-3.1-8b", "--set", "policy.rounds=7", "--seed", "9")
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(first.stdout), 0o644); err != nil {
		t.Fatal(err)
	}
	if second := must(t, dir, nil, "config", "show", "-c", "c.yaml"); second.stdout != first.stdout {
		t.Errorf("first:\n%s\nsecond:\n%s", first.stdout, second.stdout)
	}
	if !strings.Contains(first.stdout, "rounds: 7") {
		t.Error("--set was not heard")
	}
	var c map[string]any
	if err := json.Unmarshal([]byte(must(t, dir, nil, "config", "show", "-o", "json").stdout), &c); err != nil {
		t.Error(err)
	}
}

func TestPlantedIsReadBackAsItIs(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "sub/planted-5", "--seed", "5")
	d, err := planted.New(planted.Config{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	ds, report, err := dataset.Load(t.Context(), filepath.Join(dir, "sub/planted-5"), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d.Dataset, ds) {
		t.Errorf("other data came back: %d users, %d items, %d records, spec %+v", len(ds.Users), len(ds.Items), len(ds.Records), ds.Spec)
	}
	if len(report.Warnings) > 0 {
		t.Errorf("warnings %q", report.Warnings)
	}
	truth, err := os.ReadFile(filepath.Join(dir, "sub/planted-5/truth.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(truth))).ReadAll()
	if err != nil || len(rows) != 201 || rows[7][1] != d.Attributes[d.Cares[6]] {
		t.Errorf("truth.csv: %d rows, %v", len(rows), err)
	}
	if o := recpie(t, dir, nil, "data", "planted", "--out", "sub/planted-5"); o.code != exitFailed || !strings.Contains(o.stderr, "--out") {
		t.Errorf("it wrote over a data set: %d, %s", o.code, o.stderr)
	}
}

func TestDataCheck(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	f, err := os.OpenFile(filepath.Join(dir, "p", "interactions.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("u00001,i00002,nine,5\nu00001,i00002,9,5\n"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	o := must(t, dir, nil, "data", "check", "p")
	for _, want := range []string{"10 users", "20 items", "train 70, validation 10, test 20", "2 broken", "interactions.csv:102", "nine"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, o.stdout)
		}
	}
	var r dataset.Report
	if err := json.Unmarshal([]byte(must(t, dir, nil, "data", "check", "p", "-o", "json", "--quarantine", "broken.jsonl").stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Users != 10 || r.Split == nil || r.Split.Train != 70 || len(r.Files) != 2 {
		t.Errorf("%+v", r)
	}
	b, err := os.ReadFile(filepath.Join(dir, "broken.jsonl"))
	if err != nil || strings.Count(string(b), "\n") != 2 {
		t.Errorf("quarantine: %s, %v", b, err)
	}
}

// cells of a spreadsheet must not run.
func TestCell(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "The user likes it.": "The user likes it.", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "a=b": "a=b",
		"=HYPERLINK(\"http://x\",\"y\")": "'=HYPERLINK(\"http://x\",\"y\")",
	} {
		if got := cell(in); got != want {
			t.Errorf("cell(%q) = %q, want %q", in, got, want)
		}
	}
}

// What predict says of a finished run is what its report says of it.
func TestPredictAgreesWithTheReport(t *testing.T) {
	w := unbroken(t)
	report, err := evaluate.ReadReport(w.path("run"))
	if err != nil {
		t.Fatal(err)
	}
	o := must(t, w.dir, w.env, "predict", "--run", "run", "-o", "json")
	var rows []orchestrator.Prediction
	if err := json.Unmarshal([]byte(o.stdout), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != report.NTest {
		t.Fatalf("%d predictions for %d test records", len(rows), report.NTest)
	}
	se, users, explained := 0., map[string]int{}, 0
	for _, r := range rows {
		se += (r.Rating - r.TrueRating) * (r.Rating - r.TrueRating) / 16 // of the scale 1..5
		users[r.User]++
		sum := 0.
		for _, a := range r.Attention {
			sum += a
		}
		if len(r.Attention) != 6 || math.Abs(sum-1) > 1e-4 {
			t.Errorf("attention %v", r.Attention)
		}
		if r.Positive != "" && r.Negative != "" {
			explained++
		}
	}
	want := report.Test.Untrained.RMSE
	if k := report.SelectedRound; k > 0 {
		want = report.Test.Rounds[k-1].RMSE
	}
	if got := math.Sqrt(se / float64(len(rows))); math.Abs(got-want) > 1e-5 {
		t.Errorf("RMSE of the predictions is %g, the report says %g", got, want)
	}
	if explained == 0 {
		t.Error("no prediction has both explanations")
	}

	user := rows[0].User
	table, err := csv.NewReader(strings.NewReader(must(t, w.dir, w.env, "predict", "--run", "run", "--user", user).stdout)).ReadAll()
	if err != nil || len(table) != 1+users[user] || !slices.Equal(table[0][:4], []string{"user_id", "item_id", "title", "rating"}) {
		t.Fatalf("%d lines: %v", len(table), err)
	}
	for i, line := range table[1:] {
		if v, err := strconv.ParseFloat(line[3], 64); err != nil || line[0] != user || math.Abs(v-rows[i].Rating) > 1e-3 {
			t.Errorf("line %q: %v", line, err)
		}
	}
	if o := recpie(t, w.dir, w.env, "predict", "--run", "run", "--user", "nobody"); o.code != exitFailed || !strings.Contains(o.stderr, "nobody") {
		t.Errorf("unknown user: %d, %s", o.code, o.stderr)
	}
}

func TestEvaluate(t *testing.T) {
	w := unbroken(t)
	one := must(t, w.dir, w.env, "evaluate", "run")
	for _, name := range []string{"biases", "no_explanations", "untrained", "rounds[1]", "rounds[2]", "heuristic", "shuffled_refit", "numbers_refit"} {
		if !strings.Contains(one.stdout, name) {
			t.Errorf("the table has no %s:\n%s", name, one.stdout)
		}
	}
	if !strings.Contains(w.stdout, one.stdout) {
		t.Errorf("train has shown another table:\n%s", w.stdout)
	}
	two := must(t, w.dir, w.env, "evaluate", "run", "run")
	if !strings.Contains(two.stdout, "untrained") {
		t.Errorf("two runs:\n%s", two.stdout)
	}
}

// A run directory belongs to its settings and its data.
func TestRunIsHeldToWhatItWasBegunWith(t *testing.T) {
	w := unbroken(t)
	o := recpie(t, w.dir, w.env, append(slices.Clone(train), "--set", "policy.pairs=4")...)
	if o.code != exitFailed || !strings.Contains(o.stderr, "pairs: 4") || !strings.Contains(o.stderr, "--run") {
		t.Errorf("other settings: %d, %s", o.code, o.stderr)
	}
	dir, err := orchestrator.OpenRunDir(w.path("run"))
	if err != nil {
		t.Fatal(err)
	}
	o = recpie(t, w.dir, w.env, train...)
	_ = dir.Close()
	if o.code != exitFailed || !strings.Contains(o.stderr, "in use") {
		t.Errorf("a second process: %d, %s", o.code, o.stderr)
	}

	s := w.again(t)
	if err := os.CopyFS(s.path("run"), os.DirFS(w.path("run"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path("planted")); err != nil {
		t.Fatal(err)
	}
	must(t, s.dir, s.env, "data", "planted", "--out", "planted", "--seed", "4", "--users", "24", "--items", "30", "--per-user", "12")
	if o := recpie(t, s.dir, s.env, "predict", "--run", "run"); o.code != exitFailed || !strings.Contains(o.stderr, "has changed") {
		t.Errorf("other data: %d, %s", o.code, o.stderr)
	}
	if err := os.Remove(s.path("run", "report.json")); err != nil {
		t.Fatal(err)
	}
	if o := recpie(t, s.dir, s.env, "predict", "--run", "run"); o.code != exitFailed || !strings.Contains(o.stderr, "recpie train -c") {
		t.Errorf("unfinished run: %d, %s", o.code, o.stderr)
	}
}

func TestTrainWithoutExplanations(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "30", "--items", "30", "--per-user", "12")
	args := []string{"train", "--explanations", "off", "--data", "p", "--run", "r", "--network-seeds", "1", "--set", "recommender.epochs=2"}
	o := must(t, dir, nil, args...)
	if !strings.Contains(o.stdout, "no_explanations") || strings.Contains(o.stdout, "untrained") || !exists(filepath.Join(dir, "r", "report.html")) {
		t.Errorf("%s", o.stdout)
	}
	rows, err := csv.NewReader(strings.NewReader(must(t, dir, nil, "predict", "--run", "r").stdout)).ReadAll()
	if err != nil || len(rows) != 1+30*3 {
		t.Errorf("%d rows: %v", len(rows), err)
	}
}

// A key is in no output and no file, even when the server sends it back.
func TestSecretsStaySecret(t *testing.T) {
	const canary = "canary-5f8e3b1c9d"
	seen := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Authorization") + r.Header.Get("X-API-Key")
		if strings.Contains(key, canary) {
			seen++
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(rw).Encode(map[string]any{"error": map[string]any{"message": "no such key: " + key, "type": "auth", "code": 401}, "message": key})
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	dir := t.TempDir()
	settings := "inference:\n  endpoints:\n    - {url: " + srv.URL + ", key_env: MY_KEY}\n  model: m\ntraining: {url: " + srv.URL + ", key_env: MY_KEY}\ndata: {path: p}\n"
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	env := []string{"MY_KEY=" + canary}
	for _, args := range [][]string{
		{"config", "show"}, {"config", "show", "-o", "json"}, {"config", "validate"}, {"doctor"}, {"doctor", "-o", "json"}, {"train", "--run", "r1"}, {"explain", "--run", "r2"},
	} {
		o := recpie(t, dir, env, append(args, "-c", "c.yaml")...)
		if strings.Contains(o.stdout+o.stderr, canary) {
			t.Errorf("%v shows the key:\n%s%s", args, o.stdout, o.stderr)
		}
		if args[0] == "train" && (o.code != exitFailed || !strings.Contains(o.stderr, "401")) {
			t.Errorf("train: %d, %s", o.code, o.stderr)
		}
	}
	if seen == 0 {
		t.Error("the key was never sent: the test looks at nothing")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), canary) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
