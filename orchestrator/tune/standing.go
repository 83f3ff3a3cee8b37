package tune

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"recpie/internal/evaluate"
	"recpie/internal/fault"
)

// measurement is what the records say of one trial in one stage.
type measurement struct {
	whole   bool // all seeds are there
	rmse    []float64
	epochs  []int
	seconds float64
	at      float64 // when the last fit was finished
	failed  string  // why the first of the failed fits failed
}

// measured collects the fits of a trial.
func (r *run) measured(trial, atMost int, confirms bool) (m measurement) {
	seeds := r.Seeds
	if confirms {
		seeds = r.ConfirmSeeds
	}
	m.whole = true
	for _, seed := range seeds {
		rec := r.journal.find(key{trial, atMost, confirms, seed})
		if rec == nil {
			m.whole = false
			continue
		}
		m.rmse, m.seconds, m.at = append(m.rmse, rec.RMSE), m.seconds+rec.Seconds, max(m.at, rec.At)
		if rec.Epochs > 0 {
			m.epochs = append(m.epochs, rec.Epochs)
		}
		m.failed = cmp.Or(m.failed, rec.Error)
	}
	return m
}

// ok says whether every fit succeeded.
func (m *measurement) ok() bool { return m.whole && m.failed == "" }

// best returns the n best of the trials that were measured with atMost, by mean RMSE and then by index.
func (r *run) best(trials []int, atMost, n int) []int {
	score := map[int]float64{}
	var ok []int
	for _, t := range trials {
		if m := r.measured(t, atMost, false); m.ok() {
			score[t], _ = evaluate.MeanSE(m.rmse)
			ok = append(ok, t)
		}
	}
	slices.SortFunc(ok, func(a, b int) int { return cmp.Or(cmp.Compare(score[a], score[b]), cmp.Compare(a, b)) })
	return ok[:min(n, len(ok))]
}

// known lists the trials of this search that have a record, in order.
func (r *run) known() (trials []int) {
	for _, rec := range r.journal.records {
		if r.Trials == 0 || rec.Trial < r.Trials {
			trials = append(trials, rec.Trial)
		}
	}
	slices.Sort(trials)
	return slices.Compact(trials)
}

// finalists returns trial 0 and the best trials of the stage.
func (r *run) finalists(atMost int) ([]int, error) {
	best := r.best(r.known(), atMost, r.Finalists)
	if len(best) == 0 {
		why := errors.New("no trial was measured within the budget")
		for _, rec := range r.journal.records {
			if rec.Error != "" {
				why = fmt.Errorf("no trial could be measured; trial %d: %s", rec.Trial, rec.Error)
				break
			}
		}
		return nil, fault.WithHint(fault.New(fault.Fatal, "tune", why), "begin anew with another space or a larger budget, and another --run")
	}
	return append([]int{0}, slices.DeleteFunc(best, func(t int) bool { return t == 0 })...), nil
}
