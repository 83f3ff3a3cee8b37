package orchestrator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"recpie/internal/evaluate"
	"recpie/internal/progress"
	"recpie/policy"
	"recpie/prompts"
	"recpie/recommender"
)

// Loop is the paper's alternation: explanations, network, policy steps against the network's errors, new explanations. Every phase
// finds what an interrupted run left and goes on behind it: explanations row by row in the store, policy steps by checkpoint, fitted
// systems by their file; networks in between are fitted again, which gives the same weights.
type Loop struct {
	Dir      *RunDir
	Lab      *Lab
	Explain  *Explainer
	Learner  *Learner // nil: the language model stays as it is
	Embed    Embedder
	Base     string // served name of the base model
	BaseID   string // digest or name that tells base models apart
	Folds    int
	Validate int // validation pairs whose mean reward is followed
	Metrics  *Metrics
	Show     *progress.Reporter

	report *evaluate.Report
	reward []float32 // per followed validation pair, of the untrained explanations
	usable []bool    // per followed validation pair: both untrained texts were sentences
	judge0 *recommender.Model
}

// Run runs the loop to its end and returns the report.
func (l *Loop) Run(ctx context.Context) (*evaluate.Report, error) {
	var err error
	if l.report, err = newReport(l.Lab); err != nil {
		return nil, err
	}
	defer func() {
		if l.judge0 != nil {
			l.judge0.Close()
		}
	}()
	rounds := 0
	if l.Learner != nil {
		rounds = l.Learner.Set.Rounds
		if err := l.Learner.Begin(ctx); err != nil {
			return nil, err
		}
		if why := l.Learner.Frozen(); why != "" {
			l.Show.Printf("%s", why)
			l.report.Notes = append(l.report.Notes, why)
		}
	}
	w := l.Lab.Work
	author := Author{Model: l.Base, Digest: "base " + l.BaseID}
	var results []*Result
	var texts []*Explained
	var expls []*recommender.Explanations
	var previous *recommender.Model
	defer func() {
		if previous != nil && previous != l.judge0 { // the first is closed above
			previous.Close()
		}
	}()
	for round := 0; ; round++ {
		e, expl, err := l.explain(ctx, round, author)
		if err != nil {
			return nil, err
		}
		name := "untrained"
		if round > 0 {
			name = fmt.Sprintf("round-%d", round)
		}
		res, err := l.timed("networks", func() (*Result, error) { return l.Lab.Judge(ctx, name, expl) })
		if err != nil {
			return nil, err
		}
		results, texts, expls = append(results, res), append(texts, e), append(expls, expl)
		// Fresh explanations, fresh fit: what the policy is paid by, and the consumer table of the next soft prompts.
		model, _, err := recommender.Fit(ctx, recommender.Input{Data: w.Train.Net, Train: w.Split.Train, Val: w.Split.Val, Expl: expl, Settings: l.Lab.Settings, Seed: l.Lab.Seeds[0], Start: previous})
		if err != nil {
			return nil, err
		}
		if previous != nil && previous != l.judge0 {
			previous.Close()
		}
		previous = model
		if round == 0 {
			l.judge0 = model
		}
		if err := l.follow(ctx, round, expl, res); err != nil {
			return nil, err
		}
		if round == rounds {
			break
		}
		if author, err = l.improve(ctx, round+1, expl, model, res.Epochs[0]); err != nil {
			return nil, err
		}
	}
	return l.report, l.conclude(ctx, results, texts, expls)
}

func (l *Loop) timed(name string, f func() (*Result, error)) (*Result, error) {
	began := time.Now()
	r, err := f()
	l.report.Timings[name] += time.Since(began).Seconds()
	return r, err
}

// explain writes the explanations of all pairs by the given author.
func (l *Loop) explain(ctx context.Context, round int, who Author) (*Explained, *recommender.Explanations, error) {
	began := time.Now()
	var task *progress.Task
	name := fmt.Sprintf("explanations, round %d", round)
	l.Explain.Progress = func(total, done int) func(int) {
		task = l.Show.Start(name, int64(total), int64(done))
		return func(n int) { task.Add(int64(n)) }
	}
	e, err := l.Explain.Explain(ctx, fmt.Sprintf("round-%d", round), l.Lab.Work.Pairs(), who)
	if err != nil {
		return nil, nil, err
	}
	rejected := 0
	for _, n := range e.Rejected {
		rejected += n
	}
	task.Done(fmt.Sprintf("%d texts, %d rejected", 2*len(e.Recs), rejected))
	expl, err := vectorise(ctx, l.Embed, l.Lab.Work.Data, e)
	l.report.Timings["explanations"] += time.Since(began).Seconds()
	if err == nil {
		err = l.Metrics.Log(fmt.Sprintf("explanations/%d", round), map[string]any{"round": round, "texts": 2 * len(e.Recs), "rejected": e.Rejected, "tokens": e.Tokens})
	}
	return e, expl, err
}

// follow measures the reward of the round's explanations on the fixed validation pairs, always by the network fitted on the untrained
// explanations: so only the texts differ from round to round.
func (l *Loop) follow(ctx context.Context, round int, expl *recommender.Explanations, res *Result) error {
	w := l.Lab.Work
	val := slices.Clone(w.Split.Val)
	rng := rand.New(rand.NewPCG(uint64(l.Lab.Seeds[0]), 0xa11))
	rng.Shuffle(len(val), func(i, j int) { val[i], val[j] = val[j], val[i] })
	val = val[:min(len(val), l.Validate)]
	p, err := l.judge0.Predict(ctx, val, expl)
	if err != nil {
		return err
	}
	truth := w.Data.Labels(val)
	users := make([]int32, len(val))
	rewards := make([]float32, len(val))
	mean := 0.0
	for i, y := range truth {
		r, err := policy.Reward(float64(y), float64(p.Y[i]))
		if err != nil {
			return err
		}
		rewards[i], users[i] = float32(r), w.Data.Records[val[i]].User
		mean += r / float64(len(val))
	}
	usable := make([]bool, len(val))
	for i, r := range val {
		usable[i] = expl.Pos[r] >= 0 && expl.Neg[r] >= 0
	}
	if round == 0 {
		l.reward, l.usable = rewards, usable
	}
	// A policy may gain by breaking the format less often, or by choosing better: pairs with both texts in both rounds show the choice alone.
	var diff, choice []float64
	var who []int32
	for i := range val {
		d := float64(rewards[i] - l.reward[i])
		diff = append(diff, d)
		if usable[i] && l.usable[i] {
			choice, who = append(choice, d), append(who, users[i])
		}
	}
	gain, chosen := evaluate.ClusterMean(diff, users), evaluate.ClusterMean(choice, who)
	l.report.Reward = append(l.report.Reward, mean)
	l.report.RewardSE = append(l.report.RewardSE, gain.SE)
	l.Show.Printf("round %d: validation RMSE %.4f, validation reward %.4f (gain %+.4f, SE %.4f)", round, res.System.ValRMSE, mean, gain.Mean, gain.SE)
	return l.Metrics.Log(fmt.Sprintf("round/%d", round), map[string]any{
		"round": round, "validation_rmse": res.System.ValRMSE, "validation_reward": mean, "reward_gain": gain.Mean, "reward_gain_se": gain.SE, "reward_gain_p": gain.P,
		"usable_pairs": len(choice), "usable_gain": chosen.Mean, "usable_gain_se": chosen.SE,
	})
}

// improve runs the policy steps of a round and returns the new author.
func (l *Loop) improve(ctx context.Context, round int, expl *recommender.Explanations, model *recommender.Model, epochs int) (Author, error) {
	began := time.Now()
	w := l.Lab.Work
	judge, err := recommender.CrossFit(ctx, recommender.Input{Data: w.Train.Net, Train: w.Split.Train, Expl: expl, Settings: l.Lab.Settings, Seed: l.Lab.Seeds[0], Epochs: epochs}, l.Folds, nil)
	if err != nil {
		return Author{}, err
	}
	defer judge.Close()
	table, dim := model.Consumers()
	task := l.Show.Start(fmt.Sprintf("policy steps, round %d", round), int64(l.Learner.Set.Steps), 0)
	err = l.Learner.Round(ctx, round, judge, table, dim, func(m policy.Metrics) {
		task.Add(1)
		l.Show.Printf("  step %d: reward %.4f, KL %.2f, rejected %.0f%%, loss %+.4f", m.Step, m.Reward, m.KL.K1, 100*m.Rejected, m.Loss)
		for _, a := range m.Alarms {
			l.Show.Printf("  step %d: alarm: %s is %.3g, the limit is %.3g", m.Step, a.Name, a.Value, a.Limit)
		}
	})
	if err != nil {
		return Author{}, err
	}
	if err := l.Metrics.logPolicy(round); err != nil {
		return Author{}, err
	}
	task.Done("")
	l.report.Timings["policy"] += time.Since(began).Seconds()
	return l.Learner.AuthorAfter(round)
}

// conclude runs the controls beside the round that validation selects, and fills the report.
func (l *Loop) conclude(ctx context.Context, results []*Result, texts []*Explained, expls []*recommender.Explanations) error {
	r, w := l.report, l.Lab.Work
	r.Test.Untrained = results[0].System
	for _, res := range results[1:] {
		r.Test.Rounds = append(r.Test.Rounds, *res.System)
	}
	for k, res := range results {
		if res.System.ValRMSE < results[r.SelectedRound].System.ValRMSE {
			r.SelectedRound = k
		}
	}
	best := r.SelectedRound
	h := heuristic(w, w.Pairs())
	hexpl, err := vectorise(ctx, l.Embed, w.Data, h)
	if err != nil {
		return err
	}
	if err := l.Lab.Ranker.Explain(ctx, l.Embed); err != nil {
		return err
	}
	all := slices.Clone(results)
	controls := []struct {
		name string
		expl *recommender.Explanations
		to   **evaluate.System
	}{
		{"no_explanations", nil, &r.Test.NoExplanations},
		{"heuristic", hexpl, &r.Test.Heuristic},
		{"shuffled_refit", shuffled(expls[best], w.Split, l.Lab.Seeds[0]), &r.Test.ShuffledRefit},
		{"numbers_refit", numbers(w, texts[best]), &r.Test.NumbersRefit},
	}
	r.Paired = map[string]evaluate.Paired{}
	against := func(name string, a, b *Result) error {
		p, err := l.Lab.Compare(a, b)
		r.Paired[name] = p
		return err
	}
	for _, c := range controls {
		res, err := l.timed("networks", func() (*Result, error) { return l.Lab.Judge(ctx, c.name, c.expl) })
		if err != nil {
			return err
		}
		*c.to = res.System
		all = append(all, res)
		if err := against("selected round against "+c.name, results[best], res); err != nil {
			return err
		}
	}
	if len(results) > 1 {
		if err := against("last round against untrained (what PPO brought)", results[len(results)-1], results[0]); err != nil {
			return err
		}
	}
	p, err := l.Lab.CompareBiases(results[best])
	if err != nil {
		return err
	}
	r.Paired["selected round against biases"] = p
	if err := l.steps(); err != nil {
		return err
	}
	if err := l.Lab.evaluate(r, all, results[best].Name); err != nil {
		return err
	}
	if err := l.Lab.inspect(ctx, r, results[best], texts[best], expls[best]); err != nil {
		return err
	}
	return l.exchange(ctx)
}

// exchange counts how often a greedy explanation changes when it is asked for with another user's soft prompt.
func (l *Loop) exchange(ctx context.Context) error {
	if l.Learner == nil || l.Learner.version == nil || l.Learner.soft == nil {
		return nil
	}
	w := l.Lab.Work
	recs := slices.Clone(w.Split.Test)
	rng := rand.New(rand.NewPCG(uint64(l.Lab.Seeds[0]), 0xe8c4))
	rng.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	recs = recs[:min(len(recs), 64)]
	slices.Sort(recs)
	own := l.Learner.Author()
	other := own
	other.Digest += " exchanged"
	users := map[int32]int32{}
	var ids []int32
	for _, r := range recs {
		if u := w.Data.Records[r].User; len(ids) == 0 || ids[len(ids)-1] != u {
			ids = append(ids, u)
		}
	}
	for i, u := range ids {
		users[u] = ids[(i+1)%len(ids)]
	}
	other.Soft = func(user int32) ([]float32, int, error) { return own.Soft(users[user]) }
	l.Explain.Progress = nil
	a, err := l.Explain.Explain(ctx, "soft prompts, own", recs, own)
	if err != nil {
		return err
	}
	b, err := l.Explain.Explain(ctx, "soft prompts, exchanged", recs, other)
	if err != nil {
		return err
	}
	changed := 0
	for i := range recs {
		for _, pol := range prompts.Polarities {
			if a.Text[pol][i] != b.Text[pol][i] {
				changed++
			}
		}
	}
	share := float64(changed) / float64(2*len(recs))
	l.report.Faithfulness.SoftPromptShare = &share
	return nil
}
