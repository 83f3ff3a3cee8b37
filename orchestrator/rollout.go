package orchestrator

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
	"recpie/policy"
	"recpie/prompts"
	"recpie/recommender"
)

// Rollouts samples alternatives for training pairs and puts a price on them.
//
// Letters in shapes: P pairs, G alternatives per pair and polarity.
type Rollouts struct {
	Work        *Workspace
	Model       Generator
	Scorer      Scorer
	Base        string // served name of the reference: the base model without adapter and soft rows
	Embed       Embedder
	Group       int     // G
	Credit      string  // pair, crossed or side
	Temperature float64 // of sampling; log-probabilities are those of temperature 1
	MaxTokens   int
	Concurrency int
	Vocabulary  int32 // ids from here on mark soft rows
}

// pick returns the pairs of one step: records of the training part in an order drawn by seed anew for every pass, taken up where the
// step before ended.
func pick(train []int32, seed int64, step, pairs int) []int32 {
	out := make([]int32, pairs)
	var perm []int
	for i := range out {
		n := step*pairs + i
		if at := n % len(train); at == 0 || perm == nil {
			perm = rand.New(rand.NewPCG(uint64(seed), uint64(n/len(train)))).Perm(len(train))
		}
		out[i] = train[perm[n%len(train)]]
	}
	return out
}

// Sample asks for G alternatives of both explanations of every record and returns two groups per record, positive first.
// The texts are not priced yet.
func (r *Rollouts) Sample(ctx context.Context, recs []int32, who Author, consumer func(user int32) []float32, seed int64) ([]policy.Group, error) {
	groups := make([]policy.Group, 2*len(recs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Concurrency)
	for i, rec := range recs {
		for _, pol := range prompts.Polarities {
			g.Go(func() error {
				grp, err := r.sample(gctx, rec, pol, who, seed)
				if err != nil {
					return fmt.Errorf("sampling record %d: %w", rec, err)
				}
				if who.Soft != nil {
					grp.Consumer = consumer(r.Work.Data.Records[rec].User)
				}
				grp.Features = criticFeatures(r.Work.Train.Net, rec, pol)
				groups[2*i+int(pol)] = grp
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return groups, nil
}

func (r *Rollouts) sample(ctx context.Context, rec int32, pol prompts.Polarity, who Author, seed int64) (policy.Group, error) {
	var grp policy.Group
	renderer := r.Work.Train.Renderer // only training records are sampled
	p, err := renderer.Render(rec, pol)
	if err != nil {
		return grp, err
	}
	req := Request{Model: who.Model, Text: p.Text, N: r.Group, Temperature: r.Temperature, MaxTokens: r.MaxTokens, Seed: drawSeed(seed, rec, pol)}
	if who.Soft != nil {
		if req.Soft, req.SoftRows, err = who.Soft(r.Work.Data.Records[rec].User); err != nil {
			return grp, err
		}
		if softAsText(r.Model) {
			req.Profile = r.Work.Train.Profile(rec)
		}
	}
	ans, err := r.Model.Generate(ctx, req)
	if err != nil {
		return grp, err
	}
	var plain []int32 // the reference does not see the soft rows
	for _, id := range ans.Prompt {
		if id < r.Vocabulary {
			plain = append(plain, id)
		}
	}
	grp.Texts = make([]policy.Text, len(ans.Choices))
	var g errgroup.Group // the alternatives share their prompt: asked for together, it is computed once
	g.SetLimit(r.Concurrency)
	for i, c := range ans.Choices {
		g.Go(func() error {
			ref, err := r.Scorer.Score(ctx, r.Base, plain, c.Tokens)
			if err != nil {
				return fmt.Errorf("reference: %w", err)
			}
			t := policy.Text{Prompt: ans.Prompt, Tokens: c.Tokens, Logprobs: c.Logprobs, Ref: ref, Raw: c.Text}
			if parsed, rej := prompts.Parse(c.Text, renderer.Wording(), pol); rej != nil {
				t.Rejected = true
			} else {
				t.Sentence, t.Loose = parsed.Sentence, !parsed.Strict
			}
			grp.Texts[i] = t
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return grp, err
	}
	return grp, nil
}

// drawSeed gives every prompt of a step its own seed, small enough for servers that keep seeds in 32 bits.
func drawSeed(seed int64, rec int32, pol prompts.Polarity) int64 {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, [3]int64{seed, int64(rec), int64(pol)})
	return int64(h.Sum64() & 0x7fffffff)
}

// criticFeatures describes a pair for the fallback baseline: an intercept, the biases' guess and its distance from the middle, and
// the polarity.
func criticFeatures(net *recommender.Data, rec int32, pol prompts.Polarity) []float64 {
	b := float64(net.Bias.Base[rec])
	return []float64{1, b, (b - .5) * (b - .5), float64(pol)}
}

// Price sets the reward (eq. 1) of every text by networks that have not seen the record's outcome. A rejected text takes part as a
// missing explanation. How the pair's reward is shared between its two texts is Credit: "pair" gives both the reward of the pair
// with the same number, "crossed" the mean over all partners, "side" what the text alone brought.
func (r *Rollouts) Price(ctx context.Context, recs []int32, groups []policy.Group, judge *recommender.Cross) error {
	vectors, index, err := r.embed(ctx, groups)
	if err != nil {
		return err
	}
	at := func(t policy.Text) int32 {
		if t.Rejected {
			return -1
		}
		return index[t.Sentence]
	}
	// every combination of a positive and a negative text, and each beside none
	var rs, pos, neg []int32
	ask := func(rec, p, n int32) { rs, pos, neg = append(rs, rec), append(pos, p), append(neg, n) }
	for i, rec := range recs {
		P, N := groups[2*i].Texts, groups[2*i+1].Texts
		for _, p := range P {
			for _, n := range N {
				ask(rec, at(p), at(n))
			}
			ask(rec, at(p), -1)
		}
		for _, n := range N {
			ask(rec, -1, at(n))
		}
	}
	pred, err := judge.PredictWith(ctx, rs, pos, neg, vectors)
	if err != nil {
		return err
	}
	k := 0
	for i, rec := range recs {
		y, ok := r.Work.Train.View.Y(rec)
		if !ok {
			return fault.Newf(fault.Fatal, "reward", "record %d is not a training record", rec)
		}
		if k, err = r.share(groups[2*i].Texts, groups[2*i+1].Texts, float64(y), pred.Y, k); err != nil {
			return err
		}
	}
	return nil
}

// share reads the predictions of one record from position k on, in the order Price asked for them, and sets the texts' rewards.
func (r *Rollouts) share(P, N []policy.Text, y float64, pred []float32, k int) (int, error) {
	next := func() (float64, error) {
		v, err := policy.Reward(y, float64(pred[k]))
		k++
		return v, err
	}
	var err error
	both := make([][]float64, len(P)) // [G][G]
	noNeg, noPos := make([]float64, len(P)), make([]float64, len(N))
	for i := range P {
		both[i] = make([]float64, len(N))
		for j := range N {
			if both[i][j], err = next(); err != nil {
				return k, err
			}
		}
		if noNeg[i], err = next(); err != nil {
			return k, err
		}
	}
	for j := range N {
		if noPos[j], err = next(); err != nil {
			return k, err
		}
	}
	var pos, neg []float64
	switch r.Credit {
	case "crossed":
		pos, neg, err = policy.Crossed(both)
	default:
		if len(P) != len(N) {
			return k, fault.Newf(fault.Fatal, "reward", "%d positive and %d negative texts", len(P), len(N))
		}
		diagonal := make([]float64, len(P))
		for i := range P {
			diagonal[i] = both[i][i]
		}
		pos, neg = diagonal, diagonal
		if r.Credit == "side" {
			pos, neg, err = policy.Counterfactual(diagonal, noPos, noNeg)
		}
	}
	if err != nil {
		return k, err
	}
	for i := range P {
		P[i].Reward = pos[i]
	}
	for j := range N {
		N[j].Reward = neg[j]
	}
	return k, nil
}

func (r *Rollouts) embed(ctx context.Context, groups []policy.Group) (*recommender.Vectors, map[string]int32, error) {
	index := map[string]int32{}
	var texts []string
	for _, g := range groups {
		for _, t := range g.Texts {
			if _, ok := index[t.Sentence]; !ok && !t.Rejected {
				index[t.Sentence] = int32(len(texts))
				texts = append(texts, t.Sentence)
			}
		}
	}
	if len(texts) == 0 {
		return nil, nil, fault.WithHint(fault.Newf(fault.Fatal, "policy", "no sampled text is a usable sentence"), "lower policy.learning_rate or raise policy.kl and start from an earlier checkpoint")
	}
	vecs, err := r.Embed.Embed(ctx, texts)
	if err != nil {
		return nil, nil, err
	}
	out := &recommender.Vectors{Dim: len(vecs[0])}
	for _, v := range vecs {
		out.Data = append(out.Data, v...)
	}
	return out, index, nil
}
