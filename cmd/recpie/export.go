package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recpie/internal/batchfile"
	"recpie/internal/fault"
	"recpie/internal/queue"
	"recpie/orchestrator"
	"recpie/prompts"
)

// exporting is what the flags of explain and explain export say about the output.
type exporting struct {
	out, format, errors, order string
	rows                       bool
}

func (e *exporting) flags(fl *pflag.FlagSet, file string) {
	fl.StringVar(&e.out, "out", "", `file to export to, "-" for standard output (default `+file+")")
	fl.StringVar(&e.format, "out-format", "", "jsonl, parquet, or openai for the lines of an OpenAI batch output (default: by the file's name; openai for requests)")
	fl.StringVar(&e.errors, "errors", "", "with openai: file for the lines that report an error (default: among the others)")
	fl.StringVar(&e.order, "order", "ordered", "ordered: by the input, once all is done; completed: rows stream into the output as chunks finish, one line per sentence")
	fl.BoolVar(&e.rows, "rows", false, "export one line per sentence instead of one per pair")
}

func (e *exporting) check() error {
	switch {
	case e.order != "ordered" && e.order != "completed":
		return &usageError{fmt.Errorf("--order is ordered or completed, not %q", e.order)}
	case e.format != "" && e.format != batchfile.JSONL && e.format != batchfile.Parquet && e.format != batchfile.OpenAI:
		return &usageError{fmt.Errorf("--out-format is jsonl, parquet or openai, not %q", e.format)}
	}
	return nil
}

// live tells whether rows are exported while others are worked on.
func (e *exporting) live() bool { return e.order == "completed" }

func (a *app) exportCmd(f *explaining) *cobra.Command {
	var e exporting
	cmd := &cobra.Command{
		Use: "export", Short: "Export a batch again, without working on it", Args: cobra.NoArgs,
		Long: `Export writes what a batch of the database has. It needs neither the servers nor the data nor the input: all is in the database, so
that any machine that reaches it can export. It may run beside the process that works; with --order completed it follows that one
until the batch ends.`,
		Example: "  recpie explain export --run runs/first --out again.parquet\n  recpie explain export --db batches.db --name nightly --order completed | head",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			db, b, err := a.observe(ctx, f, true)
			if err != nil {
				return err
			}
			defer db.Close()
			if !e.live() && (b.State == queue.Planning || b.State == queue.Running) {
				return fault.WithHint(fault.Newf(fault.Fatal, "export", "batch %s is %s: its rows cannot be put in order yet", b.Name, b.State), "wait for its end, or follow it with --order completed")
			}
			t, _, err := restore(ctx, db, b)
			if err != nil {
				return err
			}
			defer t.close()
			if e.out == "" {
				e.out = "-"
			}
			if err := e.fits(t); err != nil {
				return err
			}
			return t.export(ctx, db, b, e)
		},
	}
	e.flags(cmd.Flags(), "standard output")
	return cmd
}

// answers tells whether the output is the lines of an OpenAI batch output.
func (e *exporting) answers(t *task) bool {
	return e.format == batchfile.OpenAI || e.format == "" && t.reqs != nil && e.target().Named() != batchfile.Parquet
}

func (e *exporting) target() batchfile.Output {
	return batchfile.Output{Path: e.out, Format: e.format, Live: e.live()}
}

// fits says what is wrong with the output for a batch, before it is worked on.
func (e *exporting) fits(t *task) error {
	var err error
	switch {
	case e.answers(t):
	case e.errors != "":
		err = errors.New("--errors is for --out-format openai: other formats have a row's reason beside it")
	case e.out != "":
		err = e.target().Check()
	}
	if err != nil {
		return &usageError{err}
	}
	return nil
}

// export writes the rows of a batch in order, or as they are completed until the batch ends.
func (t *task) export(ctx context.Context, db *queue.DB, b queue.Batch, e exporting) error {
	rows := db.Results(ctx, b)
	if e.live() {
		rows = db.Follow(ctx, b)
	}
	rows = t.known(rows)
	to := e.target()
	switch {
	case e.answers(t):
		answer := t.sentenceAnswer
		if t.reqs != nil {
			answer = t.requestAnswer
		}
		return batchfile.WriteAnswers(to, e.errors, fill(rows, answer))
	case t.reqs != nil:
		return batchfile.WriteReplies(to, fill(rows, t.reply))
	case e.rows || e.live() || !t.asks.pairs():
		return batchfile.WriteRows(to, fill(rows, t.sentence))
	}
	return batchfile.WritePairs(to, func(put func(batchfile.Pair) error) error { return t.joined(rows, put) })
}

// fill hands rows over one by one, each as its form wants it.
func fill[T any](rows iter.Seq2[queue.Result, error], form func(queue.Result) (T, error)) func(put func(T) error) error {
	return func(put func(T) error) error {
		for r, err := range rows {
			if err != nil {
				return err
			}
			v, err := form(r)
			if err == nil {
				err = put(v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// known refuses rows that nobody asked for.
func (t *task) known(rows iter.Seq2[queue.Result, error]) iter.Seq2[queue.Result, error] {
	return func(yield func(queue.Result, error) bool) {
		for r, err := range rows {
			if err == nil && (r.Row < 0 || r.Row >= int64(t.rows())) {
				err = fault.Newf(fault.Fatal, "export", "row %d is none of the %d asked for", r.Row, t.rows())
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// sentence is a row of a batch of pairs.
func (t *task) sentence(r queue.Result) (batchfile.Row, error) {
	ask, line := t.asks.at(int(r.Row))
	rec := t.w.Data.Records[ask.Record]
	id, err := t.asks.id(line)
	return batchfile.Row{Row: r.Row, ID: id, User: t.w.Data.Users[rec.User], Item: t.w.Data.Items[rec.Item].ID, Polarity: int8(ask.Polarity), Text: r.Text, Reason: r.Reason,
		Tokens: int64(r.Tokens), Model: t.model}, err
}

// joined puts the two sentences of each pair together.
func (t *task) joined(rows iter.Seq2[queue.Result, error], put func(batchfile.Pair) error) error {
	var pair batchfile.Pair
	open := false
	for r, err := range rows {
		if err != nil {
			return err
		}
		s, err := t.sentence(r)
		if err != nil {
			return err
		}
		first := s.Polarity == int8(prompts.Positive)
		if first == open || !first && pair.Row != r.Row/2 {
			return errHalf
		}
		if open = first; first {
			pair = batchfile.Pair{Row: r.Row / 2, ID: s.ID, User: s.User, Item: s.Item, Positive: s.Text, PositiveReason: s.Reason, PositiveTokens: s.Tokens, Model: s.Model}
			continue
		}
		pair.Negative, pair.NegativeReason, pair.NegativeTokens = s.Text, s.Reason, s.Tokens
		if err := put(pair); err != nil {
			return err
		}
	}
	if open {
		return errHalf
	}
	return nil
}

var errHalf = fault.WithHint(fault.New(fault.Fatal, "export", errors.New("a pair lacks one of its sentences: the batch was stopped, or rows were purged")), "export with --rows")

// Bodies of answers that are made here and not by a server.
type (
	chatBody struct {
		ID      string       `json:"id"`
		Object  string       `json:"object"`
		Model   string       `json:"model"`
		Choices []chatChoice `json:"choices"`
		Usage   chatUsage    `json:"usage"`
	}
	chatChoice struct {
		Index   int         `json:"index"`
		Message chatMessage `json:"message"`
		Finish  string      `json:"finish_reason"`
	}
	chatMessage struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	chatUsage struct {
		Completion int64 `json:"completion_tokens"`
	}
)

// noSentence is the code of a row that ended without a sentence or an answer, and without a refusal of a server's own.
const noSentence = "no_answer"

// sentenceAnswer is a row of a batch of pairs as a line of an OpenAI batch output. Its custom_id is that of the pair's line, or else the
// pair, and the polarity: a line may ask for two sentences, and an output has each custom_id once.
func (t *task) sentenceAnswer(r queue.Result) (batchfile.Answer, error) {
	s, err := t.sentence(r)
	if err != nil {
		return batchfile.Answer{}, err
	}
	if s.ID == "" {
		s.ID = s.User + "/" + s.Item
	}
	a := batchfile.Answer{ID: lineID(r.Row), CustomID: s.ID + "/" + prompts.Polarity(s.Polarity).String()}
	if s.Reason != "" {
		a.Code, a.Message = noSentence, s.Reason
		return a, nil
	}
	a.Status, a.RequestID = 200, a.ID
	a.Body, err = json.Marshal(chatBody{ID: a.ID, Object: "chat.completion", Model: s.Model, Usage: chatUsage{s.Tokens},
		Choices: []chatChoice{{Message: chatMessage{"assistant", s.Text}, Finish: "stop"}}}) // what the parser let through is a whole sentence
	return a, fault.New(fault.Item, "export", err)
}

func lineID(row int64) string { return fmt.Sprintf("batch_req_%d", row) }

// requestAnswer is a row of a batch of requests as a line of an OpenAI batch output.
func (t *task) requestAnswer(r queue.Result) (batchfile.Answer, error) {
	l, err := t.reqs.at(r.Row)
	if err != nil {
		return batchfile.Answer{}, err
	}
	a := batchfile.Answer{ID: lineID(r.Row), CustomID: l.ID}
	var refused orchestrator.Refusal
	switch {
	case r.Reason == "":
		a.Status, a.RequestID, a.Body = 200, a.ID, json.RawMessage(r.Text)
	case len(r.Payload) > 0 && json.Unmarshal(r.Payload, &refused) == nil && refused.Status != 0:
		a.Status, a.RequestID = refused.Status, a.ID
		a.Body, err = json.Marshal(map[string]any{"error": refused.Error})
	default:
		a.Code, a.Message = noSentence, r.Reason
	}
	return a, fault.New(fault.Item, "export", err)
}

// reply is a row of a batch of requests in our own form.
func (t *task) reply(r queue.Result) (batchfile.Reply, error) {
	l, err := t.reqs.at(r.Row)
	out := batchfile.Reply{Row: r.Row, ID: l.ID, Reason: r.Reason, Tokens: int64(r.Tokens), Model: t.c.Inference.Model}
	if err != nil || r.Reason != "" {
		return out, err
	}
	var body struct {
		Choices []struct {
			Index   int    `json:"index"`
			Text    string `json:"text"`
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			Finish string `json:"finish_reason"`
		} `json:"choices"`
		Usage struct {
			Prompt int64 `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal([]byte(r.Text), &body); err != nil {
		return out, fault.New(fault.Item, "export", err)
	}
	out.PromptTokens = body.Usage.Prompt
	for _, c := range body.Choices {
		if c.Index == 0 {
			out.Text, out.Finish = c.Text+c.Message.Content, c.Finish // one of the two is there
		}
	}
	return out, nil
}

// sink tells where people's text goes when the output is the standard output.
func (e *exporting) sink(cmd *cobra.Command) io.Writer {
	if e.out == "-" || e.errors == "-" {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}
