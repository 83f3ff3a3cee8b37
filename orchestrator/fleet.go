package orchestrator

import (
	"context"
	"strconv"
	"strings"

	"recpie/clients/pool"
)

// Server is one inference server, whatever API it speaks.
type Server interface {
	Generator
	Scorer
}

// Fleet is the inference servers of a run: any number, of any kind, that serve the same models. Requests of one user go to one server
// while it is healthy and not overloaded, so that its prefix cache holds the user's history and a pair's two prompts share theirs.
type Fleet struct {
	Pool  *pool.Pool[Server]
	Words bool // some server takes no soft rows: requests carry a profile in words as well
}

// SoftAsText tells that some server wants the consumer described in words where others take soft rows.
func (f Fleet) SoftAsText() bool { return f.Words }

// How much of a prompt decides its server: the beginning of the history, which a user's prompts share. Ids are about four letters each.
const (
	stickyText = 160
	stickyIDs  = 40
)

// Generate implements Generator.
func (f Fleet) Generate(ctx context.Context, r Request) (*Answer, error) {
	var out *Answer
	call := pool.Call{Op: "generate", Key: r.Model + "\x00" + r.Text[:min(len(r.Text), stickyText)], Tokens: len(r.Text)/4 + r.N*r.MaxTokens}
	err := f.Pool.Do(ctx, call, func(ctx context.Context, s Server) (err error) {
		out, err = s.Generate(ctx, r)
		return err
	})
	return out, err
}

// Score implements Scorer.
func (f Fleet) Score(ctx context.Context, model string, prompt, continuation []int32) ([]float32, error) {
	var key strings.Builder
	key.WriteString(model)
	for _, id := range prompt[:min(len(prompt), stickyIDs)] {
		key.WriteByte(0)
		key.WriteString(strconv.Itoa(int(id)))
	}
	var out []float32
	call := pool.Call{Op: "score", Key: key.String(), Tokens: len(prompt) + len(continuation)}
	err := f.Pool.Do(ctx, call, func(ctx context.Context, s Server) (err error) {
		out, err = s.Score(ctx, model, prompt, continuation)
		return err
	})
	return out, err
}
