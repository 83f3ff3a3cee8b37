package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// ErrStop ends a stream from within its callback: the rest is not wanted, and nothing is wrong.
var ErrStop = errors.New("the stream is at its end")

// Stream sends a request whose answer is a stream of server-sent events and hands each event's data, valid during the call, to each
// with the time at which it had arrived. Answers other than 200 go to call.Check, whole. The first event may take as long as the
// headers of another answer, every further one as long as Settings.Idle, whether the server is silent or sends a byte now and then.
//
// It makes one attempt: what was handed out cannot be taken back. Errors are classified like those of Call; an error of each ends
// the stream and is returned as it is.
func (c *Client) Stream(ctx context.Context, call Call, each func(data []byte, at time.Time) error) error {
	call.Accept = "text/event-stream"
	resp, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.whole(ctx, call, resp)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		return Suspect(call.Op, fmt.Errorf("the answer is %q, not a stream of events", kind))
	}
	body := resp.Body.(*flight) // only answers that are errors are wrapped again
	body.untimed = true
	body.within(c.s.Headers)
	in := newEvents(body, maxEvent)
	for {
		data, err := in.next()
		at := time.Now()
		switch {
		case err == io.EOF:
			return Suspect(call.Op, errors.New("the stream ended before its end mark"))
		case errors.Is(err, errEventTooLarge):
			return c.Failed(ctx, call.Op, fmt.Errorf("%w: %w", errTooLarge, err))
		case err != nil:
			return c.Failed(ctx, call.Op, fmt.Errorf("reading the stream: %w", err))
		}
		body.within(c.s.Idle)
		switch err := each(data, at); {
		case errors.Is(err, ErrStop):
			body.within(min(c.s.Idle, time.Second))
			_, _ = io.CopyN(io.Discard, body, 4<<10) // the little that follows the end mark: the connection can be used again
			return nil
		case err != nil:
			return err
		}
	}
}
