package audit

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// Output is where rows are exported, and how.
type Output struct {
	Path   string // "-" for the standard output
	Format string // jsonl, csv or parquet; "": by the path's extension, jsonl for the standard output
}

func (o Output) format() (string, error) {
	f := o.Format
	if f == "" {
		f = strings.TrimPrefix(strings.ToLower(filepath.Ext(o.Path)), ".")
		if o.Path == "-" {
			f = "jsonl"
		}
	}
	switch f {
	case "jsonl", "csv", "parquet":
		return f, nil
	}
	return "", fault.WithHint(fault.Newf(fault.Fatal, "audit", "%q is no format of %s", f, o.Path), "end the name with .jsonl, .csv or .parquet, or give --out-format")
}

// Check says what is wrong with the output, before the work.
func (o Output) Check() error {
	_, err := o.format()
	return err
}

// Export writes the rows of a journal. A file appears whole.
func Export(to Output, j *Journal) error {
	format, err := to.format()
	if err != nil {
		return err
	}
	fill := map[string]func(io.Writer, *Journal) error{"jsonl": exportJSON, "csv": exportCSV, "parquet": exportParquet}[format]
	if to.Path == "-" {
		return fill(os.Stdout, j)
	}
	return fault.New(fault.Fatal, "audit", durable.Write(to.Path, 0o644, func(w io.Writer) error { return fill(w, j) }))
}

func exportJSON(w io.Writer, j *Journal) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	if err := j.Each(func(r *Row) error { return e.Encode(r) }); err != nil {
		return err
	}
	return b.Flush()
}

// exportCSV has a column per intervention, empty where it could not be made, and the reasons as JSON.
func exportCSV(w io.Writer, j *Journal) error {
	out := csv.NewWriter(w)
	head := []string{"user_id", "item_id", "positive", "negative", "truth", "prediction", "attention_positive", "attention_negative"}
	for _, x := range Interventions {
		head = append(head, x.Name)
	}
	if err := out.Write(append(head, "positive_verdict", "negative_verdict", "verdict", "reasons")); err != nil {
		return err
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	err := j.Each(func(r *Row) error {
		line := []string{cell(r.User), cell(r.Item), cell(r.Positive), cell(r.Negative), number(r.Truth), number(r.Prediction), number(r.AttentionPositive), number(r.AttentionNegative)}
		for _, x := range Interventions {
			text := ""
			if c, ok := r.Changes[x.Name]; ok {
				text = number(c)
			}
			line = append(line, text)
		}
		reasons, err := json.Marshal(r.Reasons)
		if err != nil {
			return err
		}
		return out.Write(append(line, string(r.PositiveVerdict), string(r.NegativeVerdict), string(r.Verdict), string(reasons)))
	})
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// cell keeps a text from being run as a formula by a spreadsheet.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// flat is a row as Parquet has it.
type flat struct {
	User              string    `parquet:"user_id"`
	Item              string    `parquet:"item_id"`
	Positive          string    `parquet:"positive"`
	Negative          string    `parquet:"negative"`
	Truth             float64   `parquet:"truth"`
	Prediction        float64   `parquet:"prediction"`
	AttentionPositive float64   `parquet:"attention_positive"`
	AttentionNegative float64   `parquet:"attention_negative"`
	Blanked           *float64  `parquet:"blanked,optional"`
	BlankedPositive   *float64  `parquet:"blanked_positive,optional"`
	BlankedNegative   *float64  `parquet:"blanked_negative,optional"`
	SwappedUser       *float64  `parquet:"swapped_user,optional"`
	SwappedRandom     *float64  `parquet:"swapped_random,optional"`
	Exchanged         *float64  `parquet:"exchanged,optional"`
	Negated           *float64  `parquet:"negated,optional"`
	NegatedPositive   *float64  `parquet:"negated_positive,optional"`
	NegatedNegative   *float64  `parquet:"negated_negative,optional"`
	PositiveVerdict   string    `parquet:"positive_verdict"`
	NegativeVerdict   string    `parquet:"negative_verdict"`
	Verdict           string    `parquet:"verdict"`
	Reasons           []Removed `parquet:"reasons,list"`
}

func exportParquet(w io.Writer, j *Journal) error {
	out := parquet.NewGenericWriter[flat](w, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("recpie", "1", ""))
	err := j.Each(func(r *Row) error {
		change := func(name string) *float64 {
			if c, ok := r.Changes[name]; ok {
				return &c
			}
			return nil
		}
		_, err := out.Write([]flat{{User: r.User, Item: r.Item, Positive: r.Positive, Negative: r.Negative, Truth: r.Truth, Prediction: r.Prediction,
			AttentionPositive: r.AttentionPositive, AttentionNegative: r.AttentionNegative,
			Blanked: change(Blanked), BlankedPositive: change(BlankedPositive), BlankedNegative: change(BlankedNegative),
			SwappedUser: change(SwappedUser), SwappedRandom: change(SwappedRandom), Exchanged: change(Exchanged),
			Negated: change(Negated), NegatedPositive: change(NegatedPositive), NegatedNegative: change(NegatedNegative),
			PositiveVerdict: string(r.PositiveVerdict), NegativeVerdict: string(r.NegativeVerdict), Verdict: string(r.Verdict), Reasons: r.Reasons}})
		return err
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}
