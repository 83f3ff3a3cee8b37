package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"recpie/internal/fault"
	"recpie/prompts"
)

// Writer writes single explanations: prompt, model, parser. It is safe for concurrent use.
type Writer struct {
	Work      *Workspace
	Model     Generator
	MaxTokens int // longest explanation
}

// question is what a model is asked for one explanation. With a reason there is nothing to ask.
type question struct {
	rec      int32
	pol      prompts.Polarity
	wording  prompts.Wording
	request  Request
	identity [32]byte
	reason   string
}

// question renders the prompt. A record whose prompt does not fit is no error: it is a row with a reason.
func (w *Writer) question(rec int32, pol prompts.Polarity, who Author) (question, error) {
	side := w.Work.SideOf(rec)
	renderer := side.Renderer
	q := question{rec: rec, pol: pol, wording: renderer.Wording()}
	p, err := renderer.Render(rec, pol)
	if fault.ClassOf(err) == fault.Item && err != nil {
		q.reason = "prompt: " + err.Error()
		q.identity = sha256.Sum256(fmt.Appendf(nil, "recpie no prompt 1\n%d %d %s", rec, pol, q.reason))
		return q, nil
	} else if err != nil {
		return q, err
	}
	q.request = Request{Model: who.Model, Text: p.Text, N: 1, MaxTokens: w.MaxTokens}
	if who.Soft != nil {
		if q.request.Soft, q.request.SoftRows, err = who.Soft(w.Work.Data.Records[rec].User); err != nil {
			return q, err
		}
		if softAsText(w.Model) {
			q.request.Profile = side.Profile(rec)
		}
	}
	q.identity = identity(who.Digest, q.request)
	return q, nil
}

// answered is a question's end: a usable sentence, or the reason why there is none.
type answered struct {
	text, raw, reason string
	tokens            int
}

// answer asks the model, greedily. A request that the server refuses for its content ends with the reason.
func (w *Writer) answer(ctx context.Context, q question) (answered, error) {
	if q.reason != "" {
		return answered{reason: q.reason}, nil
	}
	ans, err := w.Model.Generate(ctx, q.request)
	if fault.ClassOf(err) == fault.Item && err != nil {
		return answered{reason: "refused: " + err.Error()}, nil
	} else if err != nil {
		return answered{}, fmt.Errorf("explanation of record %d: %w", q.rec, err)
	}
	c := ans.Choices[0]
	a := answered{raw: c.Text, tokens: len(c.Tokens)}
	if parsed, rej := prompts.Parse(c.Text, q.wording, q.pol); rej != nil {
		a.reason = rej.Reason.String()
	} else {
		a.text = parsed.Sentence
	}
	return a, nil
}

// identity covers all that determines an answer.
func identity(author string, r Request) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "recpie explanation 1\n%q %q %d %g %d %d %d\n", author, r.Text, r.N, r.Temperature, r.Seed, r.MaxTokens, r.SoftRows)
	var b [4]byte
	for _, x := range r.Soft {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		h.Write(b[:])
	}
	if r.Profile != "" {
		fmt.Fprintf(h, "profile %q\n", r.Profile)
	}
	return [32]byte(h.Sum(nil))
}
