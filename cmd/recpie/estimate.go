package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recpie/internal/progress"
	"recpie/internal/queue"
	"recpie/orchestrator"
)

// A dry run renders every prompt of a small batch, and a sample of a large one.
const (
	exactRows   = 20_000
	sampledRows = 5_000
	countedRows = 1_000 // prompts whose tokens are counted
	letters     = 4     // of a token, where no tokenizer is at hand: English
	aroundText  = 600   // letters of an answer to a request beside its text
)

// A probe asks for so many rows per request in flight, and for so long at most.
const (
	probeRows = 4
	probeTime = 15 * time.Second
)

// estimating says where a dry run takes the rate from.
type estimating struct {
	rate  float64
	probe bool
}

func (e *estimating) flags(fl *pflag.FlagSet) {
	fl.Float64Var(&e.rate, "rate", 0, "with --dry-run: answers per second, as 'recpie doctor --probe' measures them (default: as earlier batches of the database went)")
	fl.BoolVar(&e.probe, "probe", false, "with --dry-run: ask for some rows, for 15 s at most, to know rate and length of answers; they are thrown away")
}

// estimate is what a batch will ask for and take. What is not known is left out.
type estimate struct {
	Rows     int     `json:"rows"`
	Done     int64   `json:"done"`           // of this batch already
	Reused   float64 `json:"reused"`         // there from other batches
	NoPrompt float64 `json:"without_prompt"` // nothing fits the token budget: dead letters
	Requests float64 `json:"requests"`
	Looked   int     `json:"looked_at"`      // rows that the shares above are taken from
	Note     string  `json:"note,omitempty"` // what the run itself would refuse

	PromptTokens  float64 `json:"prompt_tokens"`
	TokensBy      string  `json:"tokens_by"`
	AnswerTokens  float64 `json:"answer_tokens"`
	AnswersBy     string  `json:"answer_tokens_by"`
	AnswersAtMost float64 `json:"answer_tokens_at_most"`
	Unbounded     float64 `json:"without_max_tokens,omitempty"` // requests that set no bound, taken to have orchestrator.UsualAnswer

	Rate      float64 `json:"rate,omitempty"` // answers per second
	RateBy    string  `json:"rate_by,omitempty"`
	Seconds   float64 `json:"seconds,omitempty"`
	Cost      float64 `json:"cost,omitempty"`
	CostMost  float64 `json:"cost_at_most,omitempty"`
	DiskBytes float64 `json:"disk_bytes"`
}

// estimate says what a batch will ask for, and sends nothing unless a probe is asked for.
func (a *app) estimate(cmd *cobra.Command, f *explaining, t *task, show *progress.Reporter) error {
	if f.estimating.rate < 0 {
		return &usageError{fmt.Errorf("--rate is %g: it must not be below 0", f.estimating.rate)}
	}
	e, err := f.foresee(cmd.Context(), t, show)
	if err != nil {
		return err
	}
	return a.print(cmd.OutOrStdout(), e, e.write)
}

func (f *explaining) foresee(ctx context.Context, t *task, show *progress.Reporter) (*estimate, error) {
	count, by, err := t.imagine(ctx, versionsDir(t.c, t.c.Run))
	if err != nil {
		return nil, err
	}
	e := &estimate{Rows: t.rows(), TokensBy: by}
	db, batch, taken, err := f.look(ctx, t)
	if err != nil {
		return nil, err
	}
	if taken {
		e.Note = fmt.Sprintf("batch %s was begun with other settings or rows: give this one another --name", f.name)
	}
	var past queue.Measured
	if db != nil {
		defer db.Close()
		if past, err = measured(ctx, db, t.author(), t.reqs != nil); err != nil {
			return nil, err
		}
	}
	rows, text, err := t.survey(ctx, e, db, batch, count)
	if err != nil {
		return nil, err
	}
	e.AnswerTokens, e.AnswersBy = e.AnswersAtMost, "inference.max_tokens"
	if t.reqs != nil {
		e.AnswersBy = "max_tokens of the requests"
	}
	answers := func(rows, tokens int64, by string) {
		if rows > 0 {
			e.AnswerTokens, e.AnswersBy = e.Requests*float64(tokens)/float64(rows), fmt.Sprintf("%s %d answers", by, rows)
		}
	}
	answers(past.Answers, past.Tokens, "mean of")
	if r := past.Rate(); r > 0 {
		e.Rate, e.RateBy = r, "earlier batches"
	}
	if f.estimating.probe {
		p, err := f.probe(ctx, t, rows, show)
		if err != nil {
			return nil, err
		}
		answers(int64(p.Rows), int64(p.Tokens), "probe of")
		e.Rate, e.RateBy = float64(p.Rows)/p.Took.Seconds(), "probe"
	}
	if f.estimating.rate > 0 {
		e.Rate, e.RateBy = f.estimating.rate, "--rate"
	}
	e.finish(t, text)
	return e, nil
}

// finish derives time, cost and disk. perToken is how many letters a token has.
func (e *estimate) finish(t *task, perToken float64) {
	c := t.c.Inference
	each := (e.PromptTokens + e.AnswerTokens) / max(e.Requests, 1)
	for key, most := range map[string]float64{"inference.request_rate": c.RequestRate, "inference.token_rate": c.TokenRate / max(each, 1)} {
		if most > 0 && (e.Rate == 0 || most < e.Rate) {
			e.Rate, e.RateBy = most, key
		}
	}
	if e.Rate > 0 {
		e.Seconds = e.Requests / e.Rate
	}
	e.Cost = (e.PromptTokens*c.PricePrompt + e.AnswerTokens*c.PriceAnswer) / 1e6
	e.CostMost = (e.PromptTokens*c.PricePrompt + e.AnswersAtMost*c.PriceAnswer) / 1e6
	// a row keeps its sentence and what the model wrote, or the whole answer to a request
	rows, text := float64(e.Rows)-float64(e.Done), perToken*e.AnswerTokens/max(e.Requests, 1)
	if t.reqs != nil {
		e.DiskBytes, text = float64(t.reqs.letters), text+aroundText
	} else {
		e.DiskBytes, text = folderBytes(t.dir), 2*text
	}
	e.DiskBytes += queue.EmptyBytes + rows*queue.RowBytes + text*(e.Requests+e.Reused)
	if t.version != nil {
		e.DiskBytes += folderBytes(t.version.Dir)
	}
	for _, v := range []*float64{&e.Reused, &e.NoPrompt, &e.Requests, &e.PromptTokens, &e.AnswerTokens, &e.AnswersAtMost, &e.Unbounded, &e.DiskBytes} {
		*v = math.Round(*v)
	}
}

// folderBytes is the size of the files in a folder.
func folderBytes(dir string) (n float64) {
	entries, _ := os.ReadDir(dir) // it was read a moment ago
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.Mode().IsRegular() {
			n += float64(info.Size())
		}
	}
	return n
}

func (e *estimate) write(w io.Writer) {
	about := ""
	if e.Looked < e.Rows {
		about = fmt.Sprintf("about, from %d of them: ", e.Looked)
	}
	fmt.Fprintf(w, "rows      %d: %s%d done, %.0f reused, %.0f without a prompt that fits, %.0f to be asked for\n", e.Rows, about, e.Done, e.Reused, e.NoPrompt, e.Requests)
	fmt.Fprintf(w, "prompts   %s tokens, %.0f each, by %s\n", amount(e.PromptTokens), e.PromptTokens/max(e.Requests, 1), e.TokensBy)
	if e.AnswerTokens == e.AnswersAtMost {
		fmt.Fprintf(w, "answers   at most %s tokens (%s)\n", amount(e.AnswersAtMost), e.AnswersBy)
	} else {
		fmt.Fprintf(w, "answers   %s tokens (%s), at most %s\n", amount(e.AnswerTokens), e.AnswersBy, amount(e.AnswersAtMost))
	}
	if e.Unbounded > 0 {
		fmt.Fprintf(w, "          %.0f requests set no max_tokens and are taken to have %d\n", e.Unbounded, orchestrator.UsualAnswer)
	}
	if e.Rate > 0 {
		fmt.Fprintf(w, "time      %s at %.3g answers per second (%s)\n", time.Duration(e.Seconds*float64(time.Second)).Round(time.Second), e.Rate, e.RateBy)
	} else {
		fmt.Fprintln(w, "time      unknown: give --rate, or --probe to measure it")
	}
	if e.CostMost > 0 {
		fmt.Fprintf(w, "cost      %.2f, at most %.2f (inference.price_prompt, inference.price_answer)\n", e.Cost, e.CostMost)
	} else {
		fmt.Fprintln(w, "cost      unknown: set inference.price_prompt and inference.price_answer, per million tokens")
	}
	fmt.Fprintf(w, "database  %s more\n", amount(e.DiskBytes)+"B")
	if e.Note != "" {
		fmt.Fprintln(w, "note     ", e.Note)
	}
}

// amount prints a large number with three digits and a prefix.
func amount(x float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= unit.size {
			return fmt.Sprintf("%.3g %s", x/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.0f", x)
}
