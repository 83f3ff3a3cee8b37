package audit

import (
	"math"

	"recpie/internal/evaluate"
)

// Mean is a mean with its standard error, clustered by user, and the two-sided p of its being 0.
type Mean struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	SE   float64 `json:"se"`
	P    float64 `json:"p"`
}

// values collects numbers with the user of each.
type values struct {
	xs    []float64
	users []int32
}

func (v *values) add(x float64, user int32) {
	v.xs, v.users = append(v.xs, x), append(v.users, user)
}

func (v *values) mean() Mean {
	if len(v.xs) == 0 {
		return Mean{P: 1}
	}
	g := evaluate.ClusterMean(v.xs, v.users)
	return Mean{len(v.xs), g.Mean, g.SE, g.P}
}

// Effect is what an intervention does to the predictions.
type Effect struct {
	Name    string  `json:"name"`
	Meaning string  `json:"meaning"`
	Change  Mean    `json:"change"` // with its sign
	Size    Mean    `json:"size"`   // without
	Still   float64 `json:"still"`  // share that changes by less than Threshold.Plain
	Within  float64 `json:"within"` // share that changes by no more than Threshold.Used
}

// Shares are those of the verdicts, among the N sentences or records that have one.
type Shares struct {
	N        int     `json:"n"`
	Faithful float64 `json:"faithful"`
	Inert    float64 `json:"inert"`
	Contrary float64 `json:"contrary"`
}

func (s *Shares) add(v Verdict) {
	switch v {
	case Absent:
		return
	case Faithful:
		s.Faithful++
	case Inert:
		s.Inert++
	case Contrary:
		s.Contrary++
	}
	s.N++
}

func (s Shares) shares() Shares {
	n := math.Max(1, float64(s.N))
	return Shares{s.N, s.Faithful / n, s.Inert / n, s.Contrary / n}
}

// Versus compares the record's own sentences with those of a random pair, on the same records.
type Versus struct {
	Own        Mean            `json:"own"`        // |change| from no sentences to the own ones
	Random     Mean            `json:"random"`     // |change| from no sentences to the random ones
	Difference Mean            `json:"difference"` // own − random
	OwnRMSE    float64         `json:"own_rmse"`   // against the true ratings
	RandomRMSE float64         `json:"random_rmse"`
	Error      evaluate.Paired `json:"error"` // own − random: below 0 when the own sentences predict better
}

// Direction says what single reasons do: those that speak for the item should raise the prediction, those against should lower it. Agree is
// the share of the reasons with an effect above the threshold that do.
type Direction struct {
	Effect Mean    `json:"effect"` // what the reason adds to the prediction
	Moving int     `json:"moving"` // reasons with an effect above the threshold
	Agree  float64 `json:"agree"`
}

// Summary is what an audit found.
type Summary struct {
	Run       string             `json:"run,omitempty"`
	Data      string             `json:"data,omitempty"`
	Network   string             `json:"network"` // name of the audited network
	Subject   Subject            `json:"subject"`
	Records   int                `json:"records"`
	Users     int                `json:"users"`
	Of        int                `json:"of"` // test records that the sample was drawn from
	Threshold Threshold          `json:"threshold"`
	Verdicts  map[string]Shares  `json:"verdicts"`      // of records, and of positive and negative sentences
	Nothing   float64            `json:"nothing_plain"` // share of the records that would be inert by Threshold.Plain
	Effects   []Effect           `json:"effects"`
	Random    Versus             `json:"random"`
	For       Direction          `json:"reasons_for"`
	Against   Direction          `json:"reasons_against"`
	Aspects   []Aspect           `json:"aspects"`
	Attention map[string]Agrees  `json:"attention"` // by sentence
	Curves    []Point            `json:"curves"`
	Plain     []string           `json:"plain"` // the same in plain language
	Examples  []Example          `json:"examples,omitempty"`
	Notes     []string           `json:"notes,omitempty"`
	Histogram map[string]Changes `json:"-"` // what the page draws
	scatter   [2][]dot
}

// Changes are those of one intervention.
type Changes []float64

// Summarise reads the rows of a journal. s holds what the rows do not say.
func Summarise(s Summary, j *Journal) (*Summary, error) {
	t := newTally(&s)
	if err := j.Each(t.add); err != nil {
		return nil, err
	}
	if err := t.finish(); err != nil {
		return nil, err
	}
	s.Plain = s.sentences()
	return &s, nil
}

// tally adds up rows. It holds a few numbers per record.
type tally struct {
	s        *Summary
	users    map[int32]bool
	changes  map[string]*values
	verdicts [3]Shares // record, positive, negative
	own      values
	random   values
	diff     values
	y        [2][]float32 // predictions with own and random sentences
	truth    []float32
	cluster  []int32
	reasons  [2]values // for, against
	moving   [2]int
	agree    [2]int
	aspects  map[string]*aspectTally
	dots     [2][]dot
	curve    []curveTally
	examples map[Verdict][]Example
}

func newTally(s *Summary) *tally {
	return &tally{s: s, users: map[int32]bool{}, changes: map[string]*values{}, aspects: map[string]*aspectTally{}, examples: map[Verdict][]Example{}}
}

func (t *tally) add(r *Row) error {
	t.s.Records++
	t.users[r.Cluster] = true
	for name, c := range r.Changes {
		if t.changes[name] == nil {
			t.changes[name] = &values{}
		}
		t.changes[name].add(c, r.Cluster)
	}
	if r.Verdict != Absent && math.Max(r.moved(0), r.moved(1)) <= t.s.Threshold.Plain {
		t.s.Nothing++
	}
	for k, v := range [3]Verdict{r.Verdict, r.PositiveVerdict, r.NegativeVerdict} {
		t.verdicts[k].add(v)
	}
	if blank, ok := r.Changes[Blanked]; ok {
		random := r.Changes[SwappedRandom]
		own, other := math.Abs(blank), math.Abs(random-blank)
		t.own.add(own, r.Cluster)
		t.random.add(other, r.Cluster)
		t.diff.add(own-other, r.Cluster)
		t.y[0], t.y[1] = append(t.y[0], float32(r.Prediction)), append(t.y[1], float32(r.Prediction+random))
		t.truth, t.cluster = append(t.truth, float32(r.Truth)), append(t.cluster, r.Cluster)
	}
	t.addReasons(r)
	for side, alpha := range [2]float64{r.AttentionPositive, r.AttentionNegative} {
		if c, ok := r.Changes[[2]string{BlankedPositive, BlankedNegative}[side]]; ok {
			t.dots[side] = append(t.dots[side], dot{alpha, math.Abs(c), r.Cluster})
		}
	}
	t.addCurve(r)
	t.show(r)
	return nil
}

func (t *tally) addReasons(r *Row) {
	for _, m := range r.Reasons {
		a := t.aspects[m.Aspect]
		if a == nil {
			a = &aspectTally{}
			t.aspects[m.Aspect] = a
		}
		a.size.add(math.Abs(m.Change), r.Cluster)
		says := m.Lean
		if says == 0 {
			says = map[string]float64{sides[0]: 1, sides[1]: -1}[m.Sentence]
		}
		k := 0
		switch {
		case says == 0: // both sentences name it without a verdict
			continue
		case says < 0:
			k = 1
		}
		t.reasons[k].add(m.Effect(), r.Cluster)
		if math.Abs(m.Change) > t.s.Threshold.Used {
			t.moving[k]++
			if (m.Effect() > 0) == (says > 0) {
				t.agree[k]++
			}
		}
		a.effect[k].add(m.Effect(), r.Cluster)
	}
}

func (t *tally) finish() error {
	s := t.s
	s.Users = len(t.users)
	s.Verdicts = map[string]Shares{"records": t.verdicts[0].shares(), sides[0]: t.verdicts[1].shares(), sides[1]: t.verdicts[2].shares()}
	s.Nothing /= math.Max(1, float64(t.verdicts[0].N))
	s.Histogram = map[string]Changes{}
	for _, x := range Interventions {
		v := t.changes[x.Name]
		if v == nil {
			continue
		}
		e := Effect{Name: x.Name, Meaning: x.Meaning, Change: v.mean()}
		size := values{users: v.users}
		for _, c := range v.xs {
			c = math.Abs(c)
			size.xs = append(size.xs, c)
			if c < s.Threshold.Plain {
				e.Still++
			}
			if c <= s.Threshold.Used {
				e.Within++
			}
		}
		e.Size = size.mean()
		e.Still, e.Within = e.Still/float64(len(v.xs)), e.Within/float64(len(v.xs))
		s.Effects = append(s.Effects, e)
		s.Histogram[x.Name] = v.xs
	}
	s.Random = Versus{Own: t.own.mean(), Random: t.random.mean(), Difference: t.diff.mean(), Error: evaluate.Paired{P: 1}}
	if len(t.truth) > 0 {
		own, err := evaluate.Measure(t.y[0], t.truth)
		if err != nil {
			return err
		}
		random, err := evaluate.Measure(t.y[1], t.truth)
		if err != nil {
			return err
		}
		s.Random.OwnRMSE, s.Random.RandomRMSE = own.RMSE, random.RMSE
		if s.Random.Error, err = evaluate.Compare(t.y[0], t.y[1], t.truth, t.cluster); err != nil {
			return err
		}
	}
	for k, d := range []*Direction{&s.For, &s.Against} {
		d.Effect, d.Moving = t.reasons[k].mean(), t.moving[k]
		d.Agree = float64(t.agree[k]) / math.Max(1, float64(d.Moving))
	}
	s.Aspects = t.byAspect()
	s.Attention = map[string]Agrees{}
	for side := range t.dots {
		s.Attention[sides[side]] = agreement(t.dots[side])
	}
	s.scatter = t.dots
	s.Curves = t.points()
	for _, v := range []Verdict{Faithful, Inert, Contrary} {
		s.Examples = append(s.Examples, t.examples[v]...)
	}
	return nil
}

// effect returns an intervention's.
func (s *Summary) effect(name string) (Effect, bool) {
	for _, e := range s.Effects {
		if e.Name == name {
			return e, true
		}
	}
	return Effect{}, false
}
