package orchestrator

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"

	"recpie/adapters"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/policy"
	"recpie/recommender"
)

// Trainer is one adapter at a training server. Paths name checkpoints there.
type Trainer interface {
	policy.Trainer
	// SaveState stores weights and optimizer moments durably and returns their path.
	SaveState(ctx context.Context, name string) (path string, err error)
	// Export writes the weights as PEFT files into dir, which must not exist yet.
	Export(ctx context.Context, name, dir string) error
	// Info describes the base model.
	Info(ctx context.Context) (ModelInfo, error)
}

// Trainers makes trainers at a training server.
type Trainers interface {
	// Create makes a new adapter that changes nothing yet.
	Create(ctx context.Context) (Trainer, error)
	// Restore makes an adapter from a state that SaveState stored.
	Restore(ctx context.Context, path string) (Trainer, error)
}

// ModelInfo is what the policy must know of the base model.
type ModelInfo struct {
	Hidden       int     // width
	Vocabulary   int     // ids from here on mark soft rows
	Norm         float64 // mean norm of the token embeddings
	PromptEmbeds bool    // the server returns gradients of soft rows
}

// PolicySettings are the loop's settings of the policy.
type PolicySettings struct {
	Rounds, Steps, Pairs int
	Seed                 int64
	Soft                 bool // send soft prompts
	SoftOnly             bool // the adapter stays as it begins, changing nothing, and is not published: only the projection is trained
	PPO                  policy.Settings
}

// exportDir is where an adapter lies, inside the run directory, between its download and its version.
const exportDir = "export"

// Learner is the language model's side of the loop: it holds the adapter, the projection and the version that samples, and makes
// PPO steps. After every step all of it is in one checkpoint.
type Learner struct {
	Dir      *RunDir
	Set      PolicySettings
	Rollouts *Rollouts
	Trainers Trainers
	Versions *adapters.Store
	Publish  *adapters.Publisher
	Lineage  adapters.Lineage // run and split
	Metrics  *Metrics
	Serve    func(ctx context.Context, v *adapters.Version) error // sees that v can write explanations before the first is asked for; nil: publishing does

	info      ModelInfo
	without   string // why soft prompts are left out
	trainer   Trainer
	optimizer *policy.Optimizer
	proj      *policy.Projection
	version   *adapters.Version
	soft      *adapters.SoftPrompt
	table     []float32 // consumer table of this round, [users, dim]
	dim       int
	at        Checkpoint // the last one
}

// Steps of a round are numbered from 0, the publication of the new consumer table before the first PPO step, to Set.Steps.
func (l *Learner) sequence(round, step int) int { return (round-1)*(l.Set.Steps+1) + step }

// Begin takes up the last checkpoint, or makes a new adapter.
func (l *Learner) Begin(ctx context.Context) error {
	if err := sweepCheckpoints(l.Dir.Path("checkpoints")); err != nil {
		return err
	}
	last, err := LatestCheckpoint(l.Dir.Path("checkpoints"))
	if err != nil {
		return err
	}
	if last == nil {
		l.trainer, err = l.Trainers.Create(ctx)
	} else if err = stopped(last.Metrics); err == nil { // a run that an alarm ended does not go on because it is started again
		l.trainer, err = l.Trainers.Restore(ctx, last.Trainer)
	}
	if err != nil {
		return err
	}
	info, err := l.trainer.Info(ctx)
	if err != nil {
		return err
	}
	if err := l.know(info); err != nil {
		return err
	}
	if last == nil {
		return nil
	}
	l.at = *last
	if l.version, err = l.Versions.Open(last.Version); err != nil {
		return err
	}
	if l.version.HasAdapter() == l.Set.SoftOnly {
		return fault.WithHint(fault.Newf(fault.Fatal, "policy", "the run's last version %s, and this time the inference servers want the other", map[bool]string{true: "has an adapter", false: "is a soft prompt alone"}[l.version.HasAdapter()]),
			"start the servers as they were, set policy.path, or begin a new run")
	}
	if l.soft, err = l.version.SoftPrompt(); err != nil {
		return err
	}
	if err := l.Publish.Publish(ctx, l.version); err != nil {
		return err
	}
	// a crash between checkpoint and metrics leaves the line to be written now
	return l.log(last)
}

// Round makes the PPO steps of one round with rewards from judge and soft prompts from the consumer table, or what is left of them.
// tick is called after every step.
func (l *Learner) Round(ctx context.Context, round int, judge *recommender.Cross, table []float32, dim int, tick func(policy.Metrics)) error {
	l.table, l.dim = unitScale(table), dim
	if err := l.prepare(); err != nil {
		return err
	}
	for step := 0; step <= l.Set.Steps; step++ {
		if l.sequence(round, step) <= l.at.Step && l.version != nil {
			continue // in the checkpoint
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		m, err := l.advance(ctx, round, step, judge)
		if err != nil {
			return fmt.Errorf("round %d, step %d: %w", round, step, err)
		}
		if step > 0 && tick != nil {
			tick(m)
		}
		if err := stopped(m); err != nil {
			return err
		}
	}
	return nil
}

// stopped is the error of a step whose alarms end the run.
func stopped(m policy.Metrics) error {
	for _, a := range m.Alarms {
		if a.Stop {
			return fault.WithHint(fault.Newf(fault.Fatal, "policy", "alarm: %s is %.3g, the limit is %.3g", a.Name, a.Value, a.Limit),
				"lower policy.learning_rate or raise policy.kl, and begin a new run")
		}
	}
	return nil
}

// prepare makes or restores the optimizer once the width of the consumer table is known.
func (l *Learner) prepare() error {
	if l.optimizer != nil {
		return nil
	}
	set := l.Set.PPO
	set.VocabSize, set.Seed = int32(l.info.Vocabulary), uint64(l.Set.Seed)
	if l.Set.SoftOnly {
		set.Adapter.LR = 0
	}
	if l.Set.Soft {
		var err error
		if l.proj, err = policy.NewProjection(1, l.info.Hidden, l.dim, l.info.Norm, uint64(l.Set.Seed)); err != nil {
			return err
		}
	}
	critic, err := policy.NewCritic(len(criticFeatures(l.Rollouts.Work.Train.Net, 0, 0)), 1)
	if err != nil {
		return err
	}
	if l.optimizer, err = policy.NewOptimizer(set, l.trainer, l.proj, critic); err != nil {
		return err
	}
	if l.at.Version != "" {
		return l.optimizer.Restore(l.at.Policy, l.at.Tensors)
	}
	return nil
}

// Author returns the version that writes now.
func (l *Learner) Author() Author { return l.authorOf(l.version, l.soft) }

// AuthorAfter returns the version that a finished round ended with. After a resumed later round it may be out of service: all it was
// to write is in the store.
func (l *Learner) AuthorAfter(round int) (Author, error) {
	seq := l.sequence(round, l.Set.Steps)
	if l.version != nil && l.version.Number == seq {
		return l.Author(), nil
	}
	c, err := loadCheckpoint(l.Dir.Path("checkpoints", checkpointName(seq)))
	if err != nil {
		return Author{}, err
	}
	v, err := l.Versions.Open(c.Version)
	if err != nil {
		return Author{}, err
	}
	soft, err := v.SoftPrompt()
	return l.authorOf(v, soft), err
}

func (l *Learner) authorOf(v *adapters.Version, soft *adapters.SoftPrompt) Author {
	a := Author{Model: v.Name, Digest: v.Name + " " + v.Files[adapters.WeightsFile] + " " + v.Files[adapters.SoftFile]}
	if !v.HasAdapter() {
		a.Model = l.Rollouts.Base
	}
	if l.Serve != nil {
		a.Ready = func(ctx context.Context) error { return l.Serve(ctx, v) }
	}
	if soft != nil {
		a.Soft = func(user int32) ([]float32, int, error) {
			rows, err := soft.Rows(user)
			k, _ := soft.Shape()
			return rows, k, err
		}
	}
	return a
}

// step samples, prices and updates.
//
// Failpoints: step-sampled (nothing is changed yet), step-updated (the server's weights are changed, nothing is saved).
func (l *Learner) step(ctx context.Context, round, step int, judge *recommender.Cross) (policy.Metrics, error) {
	seq := l.sequence(round, step)
	recs := pick(l.Rollouts.Work.Split.Train, l.Set.Seed, (round-1)*l.Set.Steps+step-1, l.Set.Pairs)
	groups, err := l.Rollouts.Sample(ctx, recs, l.Author(), l.consumer, l.Set.Seed<<20+int64(seq))
	if err != nil {
		return policy.Metrics{}, err
	}
	failpoint.Hit("step-sampled")
	if err := l.Rollouts.Price(ctx, recs, groups, judge); err != nil {
		return policy.Metrics{}, err
	}
	m, err := l.optimizer.Step(context.WithoutCancel(ctx), groups)
	failpoint.Hit("step-updated")
	return m, err
}

func (l *Learner) consumer(user int32) []float32 {
	return l.table[int(user)*l.dim : (int(user)+1)*l.dim]
}

// keep makes the state after a step durable and puts the new version into service.
//
// Failpoints, in order: step-saved (the trainer's state is stored), step-versioned (the version is on disk), step-published (it is in
// service), step-kept (the checkpoint is whole, the metrics line is not yet written).
func (l *Learner) keep(ctx context.Context, round, step int, m policy.Metrics) error {
	seq := l.sequence(round, step)
	name := checkpointName(seq)
	path, err := l.trainer.SaveState(ctx, name)
	if err != nil {
		return err
	}
	failpoint.Hit("step-saved")
	if l.soft, err = l.softPrompt(); err != nil {
		return err
	}
	peft, err := l.export(ctx, name)
	if err != nil {
		return err
	}
	if peft != "" {
		defer os.RemoveAll(peft)
	}
	from := l.Lineage
	from.Round, from.Step = round, step
	if l.version != nil {
		from.Parent = l.version.Name
	}
	if l.version, err = l.Versions.Write(seq, from, peft, l.soft); err != nil {
		return err
	}
	failpoint.Hit("step-versioned")
	if err := l.Publish.Publish(ctx, l.version); err != nil {
		return err
	}
	failpoint.Hit("step-published")
	c := Checkpoint{Step: seq, Round: round, Trainer: path, Version: l.version.Name, Policy: l.optimizer.State(), Metrics: m, Tensors: l.optimizer.Tensors()}
	if err := SaveCheckpoint(l.Dir.Path("checkpoints"), &c); err != nil {
		return err
	}
	l.at = c
	failpoint.Hit("step-kept")
	return l.log(&c)
}

// export downloads the adapter and returns its folder, "" where none is served.
func (l *Learner) export(ctx context.Context, name string) (string, error) {
	if l.Set.SoftOnly {
		return "", nil
	}
	peft := l.Dir.Path(exportDir)
	if err := os.RemoveAll(peft); err != nil { // what a killed process left
		return "", fault.New(fault.Fatal, "adapter", err)
	}
	return peft, l.trainer.Export(ctx, name, peft)
}

func (l *Learner) log(c *Checkpoint) error {
	if c.Metrics.Texts == 0 {
		return nil // the publication that begins a round
	}
	return l.Metrics.Log("step/"+checkpointName(c.Step), stepLine{c.Round, c.Version, c.Metrics})
}

// softPrompt snapshots the projection and the consumer table.
func (l *Learner) softPrompt() (*adapters.SoftPrompt, error) {
	if l.proj == nil {
		return nil, nil
	}
	now := l.proj.Projection // what is trained is what is served
	now.W, now.B = slices.Clone(now.W), slices.Clone(now.B)
	p, err := adapters.NewSoftPrompt(now, l.table)
	if err != nil {
		return nil, err
	}
	return p.Named(l.Rollouts.Work.Data.Users)
}

// unitScale brings the table to a root mean square of 1: id embeddings are learned at whatever scale the recommender's loss likes.
func unitScale(table []float32) []float32 {
	var ss float64
	for _, x := range table {
		ss += float64(x) * float64(x)
	}
	rms := math.Sqrt(ss / float64(max(1, len(table))))
	if rms == 0 {
		rms = 1
	}
	out := make([]float32, len(table))
	for i, x := range table {
		out[i] = float32(float64(x) / rms)
	}
	return out
}
