package vllm

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// checkResult refuses an answer that is not exactly what was asked for; a server has been seen to return fewer choices than n.
func checkResult(res *Result, p Params) error {
	n := max(1, p.N)
	if len(res.Choices) != n {
		return fmt.Errorf("%d choices where %d were asked for", len(res.Choices), n)
	}
	if err := checkModel(p.Model, res.Model); err != nil {
		return err
	}
	slices.SortFunc(res.Choices, func(a, b Choice) int { return a.Index - b.Index })
	for i, c := range res.Choices {
		if c.Index != i {
			return fmt.Errorf("the choices' indexes are not 0 to %d, each once", n-1)
		}
		if err := checkFinish(i, c.FinishReason); err != nil {
			return err
		}
		if !p.TextOnly {
			if c.TokenIDs == nil {
				return fmt.Errorf("choice %d has no token ids: the server does not know return_token_ids", i)
			}
			if len(c.TokenIDs) > p.MaxTokens {
				return fmt.Errorf("choice %d has %d tokens, at most %d were asked for", i, len(c.TokenIDs), p.MaxTokens)
			}
			if err := checkIDs(c.TokenIDs); err != nil {
				return fmt.Errorf("choice %d: %w", i, err)
			}
			if p.Logprobs && len(c.Logprobs) != len(c.TokenIDs) {
				return fmt.Errorf("choice %d has %d log-probabilities for %d tokens", i, len(c.Logprobs), len(c.TokenIDs))
			}
		}
		for j, lp := range c.Logprobs {
			if err := checkLogprob(lp); err != nil {
				return fmt.Errorf("choice %d, token %d: %w", i, j, err)
			}
		}
	}
	if !p.TextOnly && len(res.PromptTokenIDs) == 0 {
		return fmt.Errorf("the answer has no prompt token ids")
	}
	return checkIDs(res.PromptTokenIDs)
}

var errNoIndex = errors.New("a choice has no index")

// dated is what some services put behind the name of a model: the day of its version.
var dated = regexp.MustCompile(`^-\d{4}-\d{2}-\d{2}$`)

func checkModel(asked, answered string) error {
	if rest, ok := strings.CutPrefix(answered, asked); asked == "" || ok && (rest == "" || dated.MatchString(rest)) {
		return nil
	}
	return fmt.Errorf("the answer is from model %q, %q was asked", answered, asked)
}

func checkFinish(choice int, reason string) error {
	if reason != "stop" && reason != "length" {
		return fmt.Errorf("choice %d finished with %q", choice, reason)
	}
	return nil
}

// checkLogprob allows a rounding error above 0.
func checkLogprob(lp float64) error {
	if math.IsNaN(lp) || math.IsInf(lp, 0) || lp > 1e-3 {
		return fmt.Errorf("%v is no log-probability", lp)
	}
	return nil
}

func checkIDs(ids []int32) error {
	if i := slices.IndexFunc(ids, func(id int32) bool { return id < 0 }); i >= 0 {
		return fmt.Errorf("token id %d is negative", ids[i])
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
