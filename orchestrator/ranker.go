package orchestrator

import (
	"context"
	"math/rand/v2"
	"slices"

	"recpie/internal/dataset"
	"recpie/internal/evaluate"
	"recpie/internal/evaluate/ranking"
	"recpie/prompts"
	"recpie/recommender"
)

// RankSettings say how rankings are measured.
type RankSettings struct {
	ranking.Settings
	Cutoffs   []int
	Explained int // lists, drawn by seed, on which a network with explanations is measured: each item of each list needs two sentences; 0 takes all
}

// Ranker has networks rank the lists of a split: one liked test record each among items that its user has no record of. All items of a
// list are candidates of the moment of that record, described alike from the final side.
type Ranker struct {
	Lists *ranking.Lists

	settings  RankSettings
	work      *Workspace
	data      *recommender.Data // the final side's, candidates included
	recs      []int32           // candidates, list after list: the liked item, then the others draw by draw
	starts    []int             // of each list in recs, and the end
	explained []int             // lists that networks with explanations rank, ascending
	said      *candidateTexts
}

// candidateTexts are the explanations of the candidates of the explained lists, in that order.
type candidateTexts struct {
	recs, pos, neg []int32
	vectors        *recommender.Vectors
}

// ranks are the ranks of the liked items, by draw and list.
type ranks [len(ranking.Draws)][]int32

// NewRanker opens the lists stored at path, or draws and stores them, and computes the features of their items.
func NewRanker(ctx context.Context, w *Workspace, path string, s RankSettings) (*Ranker, error) {
	lists, err := ranking.Open(path, w.Final.View, s.Settings)
	if err != nil {
		return nil, err
	}
	r := &Ranker{Lists: lists, settings: s, work: w}
	var cs []dataset.Candidate
	for _, l := range lists.All {
		r.starts = append(r.starts, len(cs))
		rec := w.Data.Records[l.Record]
		at := dataset.Candidate{Pair: dataset.Pair{User: rec.User, Item: rec.Item}, Time: rec.Time, HasTime: rec.HasTime}
		cs = append(cs, at)
		for _, items := range l.Negatives {
			for _, i := range items {
				at.Item = i
				cs = append(cs, at)
			}
		}
	}
	r.starts = append(r.starts, len(cs))
	var first int32
	if r.data, first, err = w.Final.Net.With(ctx, cs); err != nil {
		return nil, err
	}
	r.recs = make([]int32, len(cs))
	for k := range r.recs {
		r.recs[k] = first + int32(k)
	}
	r.explained = make([]int, len(lists.All))
	for k := range r.explained {
		r.explained[k] = k
	}
	if n := s.Explained; n > 0 && n < len(r.explained) {
		rng := rand.New(rand.NewPCG(uint64(s.Seed), 0xe8b1))
		rng.Shuffle(len(r.explained), func(i, j int) { r.explained[i], r.explained[j] = r.explained[j], r.explained[i] })
		r.explained = r.explained[:n]
		slices.Sort(r.explained)
	}
	return r, nil
}

// ranksBy says whether the network of a compared system is to rank. Explanations by a language model are not written for candidates: the
// fixed sentences stand for them.
func (r *Ranker) ranksBy(name string) bool {
	return r != nil && (name == "no_explanations" || name == "heuristic")
}

// Explain writes the fixed sentences of the explained lists' items and embeds them; rank needs them for the network that reads such.
func (r *Ranker) Explain(ctx context.Context, embed Embedder) error {
	if r == nil || r.said != nil {
		return nil
	}
	side := Side{View: r.data.View}
	if err := r.work.describe(ctx, &side); err != nil {
		return err
	}
	s := &candidateTexts{}
	for _, l := range r.explained {
		s.recs = append(s.recs, r.recs[r.starts[l]:r.starts[l+1]]...)
	}
	e := &Explained{Recs: s.recs, Text: [2][]string{make([]string, len(s.recs)), make([]string, len(s.recs))}}
	for k, rec := range s.recs {
		for _, pol := range prompts.Polarities {
			e.Text[pol][k] = side.Renderer.Heuristic(rec, pol)
		}
	}
	expl, err := vectorise(ctx, embed, side.View.Dataset(), e)
	if err != nil {
		return err
	}
	s.pos, s.neg, s.vectors = make([]int32, len(s.recs)), make([]int32, len(s.recs)), expl.Vectors
	for k, rec := range s.recs {
		s.pos[k], s.neg[k] = expl.Pos[rec], expl.Neg[rec]
	}
	r.said = s
	return nil
}

// rank has the network of a compared system score the lists.
func (r *Ranker) rank(ctx context.Context, name string, m *recommender.Model) (ranks, error) {
	on, err := m.On(r.data)
	if err != nil {
		return ranks{}, err
	}
	if name == "heuristic" {
		p, err := on.PredictWith(ctx, r.said.recs, r.said.pos, r.said.neg, r.said.vectors)
		if err != nil {
			return ranks{}, err
		}
		return r.order(r.explained, p.Y), nil
	}
	p, err := on.Predict(ctx, r.recs, nil)
	if err != nil {
		return ranks{}, err
	}
	return r.order(nil, p.Y), nil
}

// order reads the ranks of the lists, nil for all, off the scores of their items, list after list.
func (r *Ranker) order(lists []int, scores []float32) (out ranks) {
	if lists == nil {
		for l := range r.Lists.All {
			lists = append(lists, l)
		}
	}
	for _, l := range lists {
		n := r.starts[l+1] - r.starts[l]
		mine, from := scores[:n], 1
		for d, items := range r.Lists.All[l].Negatives {
			out[d] = append(out[d], evaluate.RankOf(mine[0], mine[from:from+len(items)]))
			from += len(items)
		}
		scores = scores[n:]
	}
	return out
}

// Report measures the ranks of systems beside those by popularity and by the biases.
func (r *Ranker) Report(results []*Result) (*evaluate.Ranking, error) {
	users := make([]int32, len(r.Lists.All))
	out := &evaluate.Ranking{Candidates: r.Lists.Digest, Lists: len(users), Negatives: r.Lists.Settings.Negatives}
	seen := map[int32]bool{}
	for l, list := range r.Lists.All {
		users[l] = r.work.Data.Records[list.Record].User
		seen[users[l]] = true
	}
	out.Users = len(seen)
	counts, biases := make([]float32, len(r.recs)), make([]float32, len(r.recs))
	for k, rec := range r.recs {
		counts[k] = float32(len(r.data.View.OfItem(r.data.View.Dataset().Records[rec].Item)))
		biases[k] = r.data.Bias.Base[rec]
	}
	byCount, byBias := r.order(nil, counts), r.order(nil, biases)
	for d, name := range ranking.Draws {
		lengths := make([]int, len(users))
		for l, list := range r.Lists.All {
			lengths[l] = len(list.Negatives[d])
		}
		draw := evaluate.RankDraw{Name: name, Random: evaluate.RandomRanking(lengths, r.settings.Cutoffs)}
		var base [][]int32
		for _, res := range results {
			if res.Name == "no_explanations" {
				base = bySeed(res.Ranks, d)
			}
		}
		add := func(name string, lists []int, ranks, base [][]int32) error {
			at, err := evaluate.Ranked(ranks, base, at(users, lists), r.settings.Cutoffs)
			draw.Systems = append(draw.Systems, evaluate.RankSystem{Name: name, Lists: len(ranks[0]), At: at})
			return err
		}
		if err := add("popularity", nil, [][]int32{byCount[d]}, base); err != nil {
			return nil, err
		}
		if err := add("biases", nil, [][]int32{byBias[d]}, base); err != nil {
			return nil, err
		}
		for _, res := range results {
			var err error
			switch {
			case res.Ranks == nil:
			case res.Name == "no_explanations":
				err = add(res.Name, nil, base, nil)
			default:
				same := make([][]int32, len(base))
				for s := range base {
					same[s] = at(base[s], r.explained)
				}
				err = add(res.Name, r.explained, bySeed(res.Ranks, d), same)
			}
			if err != nil {
				return nil, err
			}
		}
		out.Draws = append(out.Draws, draw)
	}
	return out, nil
}

func bySeed(rs []ranks, draw int) [][]int32 {
	out := make([][]int32, len(rs))
	for s := range rs {
		out[s] = rs[s][draw]
	}
	return out
}

// at picks elements, all of them for nil.
func at(xs []int32, which []int) []int32 {
	if which == nil {
		return xs
	}
	out := make([]int32, len(which))
	for k, i := range which {
		out[k] = xs[i]
	}
	return out
}
