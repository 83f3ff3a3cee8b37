package lm

// accept draws a token, records it and decides whether the row is done. scratch has the length of the logits.
func (r *row) accept(bundle *Bundle, logits, scratch []float32) {
	req, c := r.job.req, r.choice
	var banned []int32
	if len(c.Tokens) < req.MinTokens {
		banned = r.job.stop
	}
	id, lp := r.draw.pick(logits, scratch, banned)
	c.Tokens = append(c.Tokens, id)
	if req.Logprobs >= 0 {
		c.Logprobs = append(c.Logprobs, lp)
		c.Top = append(c.Top, alternatives(logits, logits[id]-lp, id, min(req.Logprobs, len(logits))))
	}
	r.next = id
	r.length++
	switch {
	case r.job.isStop(id):
		c.FinishReason = "stop"
		if id != bundle.EOS || req.IgnoreEOS {
			c.StopReason = id
		}
		r.done = true
	case r.stopString(bundle, id):
		r.done = true
	case len(c.Tokens) >= r.job.max:
		c.FinishReason = "length"
		r.done = true
	}
}

// stopString adds the token to the text and reports whether a stop string ended it, in which case the text is cut before it.
func (r *row) stopString(bundle *Bundle, id int32) bool {
	if len(r.stops.stops) == 0 || bundle.Tok.Special(id) {
		return false
	}
	stop, cut, ok := r.stops.add(bundle.Tok.TokenBytes(id), len(r.choice.Tokens) >= r.job.req.MinTokens)
	if ok {
		r.choice.FinishReason, r.choice.StopReason = "stop", stop
		r.choice.Text = r.stops.before(cut)
	}
	return ok
}

// finish decodes the text. A token that ended the continuation is not part of it.
func (r *row) finish(bundle *Bundle) {
	if bundle.Tok == nil {
		return
	}
	tokens := r.choice.Tokens
	if _, cut := r.choice.StopReason.(string); cut {
		return
	} else if r.choice.FinishReason == "stop" {
		tokens = tokens[:len(tokens)-1]
	}
	r.choice.Text = bundle.Tok.Decode(tokens, true)
}
