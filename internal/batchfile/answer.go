package batchfile

import (
	"encoding/json"
	"io"
	"unicode/utf8"

	"recpie/internal/fault"
)

// Answer is one line of an OpenAI batch output: what became of one request.
type Answer struct {
	ID        string          // of this line, unique in the batch
	CustomID  string          // of the request
	Status    int             // HTTP status of the response, 0 when there was none
	RequestID string          // the server's name for the request
	Body      json.RawMessage // of the response, valid JSON; written on one line
	Code      string          // of the error, "" when the response is one that answers
	Message   string          // for people
}

// failed says that the line belongs to the error file: there was no response, or it reports an error.
func (a Answer) failed() bool { return a.Code != "" || a.Status < 200 || a.Status > 299 }

type answerRecord struct {
	ID       string          `json:"id"`
	CustomID string          `json:"custom_id"`
	Response *responseRecord `json:"response"`
	Error    *errorRecord    `json:"error"`
}

type responseRecord struct {
	Status    int             `json:"status_code"`
	RequestID string          `json:"request_id"`
	Body      json.RawMessage `json:"body"`
}

type errorRecord struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (a Answer) record() (answerRecord, error) {
	rec := answerRecord{ID: a.ID, CustomID: a.CustomID}
	if a.Status != 0 {
		rec.Response = &responseRecord{a.Status, a.RequestID, a.Body}
	}
	if a.Code != "" {
		rec.Error = &errorRecord{a.Code, a.Message}
	}
	for _, s := range []string{a.ID, a.CustomID, a.RequestID, string(a.Body), a.Code, a.Message} {
		if !utf8.ValidString(s) {
			return rec, fault.Newf(fault.Item, "batchfile", "answer %q: %q is not valid UTF-8", a.CustomID, clip(s))
		}
	}
	return rec, nil
}

// WriteAnswers writes the output of an OpenAI batch: the answers to path, those that failed (no response, or a status other than 2xx) to
// errorPath, or all to path when errorPath is "". Either may be "-"; files appear whole when fill is done unless they are written live, the
// error file too when no answer failed, so that none of an earlier run is left.
func WriteAnswers(to Output, errorPath string, fill func(put func(Answer) error) error) error {
	if to.Path == errorPath {
		return fatal("leave the error file out to have both in one", "the output and the error file are both %s", to.Path)
	}
	return to.deliver(false, func(w io.Writer) error {
		good := &jsonSink[answerRecord]{w: w}
		split := func(bad *jsonSink[answerRecord]) error {
			return fill(func(a Answer) error {
				rec, err := a.record()
				if err != nil {
					return err
				}
				if a.failed() {
					return bad.put(rec)
				}
				return good.put(rec)
			})
		}
		if errorPath == "" {
			return split(good)
		}
		return Output{Path: errorPath, Live: to.Live}.deliver(false, func(w io.Writer) error {
			return split(&jsonSink[answerRecord]{w: w})
		})
	})
}
