package tune

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"recpie/internal/evaluate"
	"recpie/internal/fault"
)

// Row is one trial of a result.
type Row struct {
	Trial       int     `json:"trial"`
	Values      Values  `json:"values"`
	AtMost      int     `json:"at_most,omitempty"` // epochs that its last fit was cut at
	RMSE        float64 `json:"rmse,omitempty"`    // validation, mean over the seeds of the search
	SE          float64 `json:"se"`                // over these seeds, 0 for one
	Confirmed   float64 `json:"confirmed,omitempty"`
	ConfirmedSE float64 `json:"confirmed_se,omitempty"`
	Epochs      []int   `json:"epochs,omitempty"`
	Seconds     float64 `json:"seconds"` // of all its fits
	At          float64 `json:"at"`      // seconds of search when it was measured
	Error       string  `json:"error,omitempty"`
}

// Gain is what the best settings bring over the model's own, on the seeds of the confirmation.
type Gain struct {
	RMSE float64 `json:"rmse"` // mean of own minus best, never below 0
	SE   float64 `json:"se"`   // of that mean over seeds
}

// Result is what a search found.
type Result struct {
	Model        string            `json:"model"`
	Data         string            `json:"data"`
	SplitDigest  string            `json:"split_digest"`
	Space        map[string]string `json:"space"`
	Seed         int64             `json:"seed"`
	Seeds        []int64           `json:"seeds"`
	ConfirmSeeds []int64           `json:"confirm_seeds"`
	Seconds      float64           `json:"seconds"` // of search, without the confirmation
	Failed       int               `json:"failed"`
	Best         Row               `json:"best"`
	Own          Row               `json:"own"` // the model's own settings
	Gain         Gain              `json:"gain"`
	Trials       []Row             `json:"trials"` // the best first, failed ones last

	space Space
}

func (r *run) result(finalists []int) (*Result, error) {
	res := &Result{Model: r.Model, Space: map[string]string{}, Seed: r.Seed, Seeds: r.Seeds, ConfirmSeeds: r.ConfirmSeeds, space: r.Space}
	for _, p := range r.Space {
		res.Space[p.Name] = p.Range.String()
	}
	rows, err := r.rows()
	if err != nil {
		return nil, err
	}
	confirmed := map[int][]float64{}
	var best *Row
	for i := range rows {
		row := &rows[i]
		if row.Error != "" {
			res.Failed++
		}
		res.Seconds = max(res.Seconds, row.At)
		m := r.measured(row.Trial, 0, true)
		if !m.ok() || !slices.Contains(finalists, row.Trial) {
			continue
		}
		confirmed[row.Trial] = m.rmse
		row.Seconds = round(row.Seconds + m.seconds)
		row.Confirmed, row.ConfirmedSE = evaluate.MeanSE(m.rmse)
		if row.Trial == 0 {
			res.Own = *row
		}
		if best == nil || row.Confirmed < best.Confirmed || row.Confirmed == best.Confirmed && row.Trial < best.Trial {
			best = row
		}
	}
	if best == nil {
		return nil, fault.Newf(fault.Fatal, "tune", "no finalist could be measured again: see the error in trials.jsonl")
	}
	res.Best = *best
	if own, ok := confirmed[0]; ok {
		var diff []float64
		for k, x := range own {
			diff = append(diff, x-confirmed[best.Trial][k])
		}
		res.Gain.RMSE, res.Gain.SE = evaluate.MeanSE(diff)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(min(len(a.Error), 1), min(len(b.Error), 1)), cmp.Compare(stage(b.AtMost), stage(a.AtMost)), cmp.Compare(a.RMSE, b.RMSE), cmp.Compare(a.Trial, b.Trial))
	})
	res.Trials = rows
	return res, nil
}

// stage orders the cuts of successive halving: no cut comes last.
func stage(atMost int) int {
	if atMost == 0 {
		return 1 << 30
	}
	return atMost
}

// rows makes one row per trial that was measured whole, from its last stage.
func (r *run) rows() ([]Row, error) {
	for _, rec := range r.journal.records {
		for _, p := range r.Space {
			if want := r.values(rec.Trial)[p.Name]; rec.Values[p.Name] != want {
				return nil, fault.WithHint(fault.Newf(fault.Fatal, "tune", "trials.jsonl is of another search: trial %d has %s %q, this one %q", rec.Trial, p.Name, rec.Values[p.Name], want),
					"choose another folder with --run")
			}
		}
	}
	var rows []Row
	for _, t := range r.known() {
		var last *Row
		seconds := 0.0
		for _, atMost := range r.stages() {
			m := r.measured(t, atMost, false)
			seconds += m.seconds
			if !m.whole {
				continue
			}
			last = &Row{Trial: t, Values: r.values(t), AtMost: atMost, Epochs: m.epochs, At: m.at, Error: m.failed}
			if m.ok() {
				last.RMSE, last.SE = evaluate.MeanSE(m.rmse)
			}
		}
		if last != nil {
			last.Seconds = round(seconds)
			rows = append(rows, *last)
		}
	}
	return rows, nil
}

// Text returns the result as a table for a terminal.
func (res *Result) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %d trials, %d failed, %.0f s of search; validation RMSE on [0,1]\n\n", res.Model, res.Data, len(res.Trials), res.Failed, res.Seconds)
	fmt.Fprintf(&b, "%5s %8s %8s %10s %8s %8s", "trial", "RMSE", "SE", "confirmed", "SE", "seconds")
	for _, p := range res.space {
		fmt.Fprintf(&b, "  %s", short(p.Name))
	}
	b.WriteByte('\n')
	for _, row := range res.Trials {
		rmse, se, confirmed, confirmedSE := "failed", "", "", ""
		if row.Error == "" {
			rmse = fmt.Sprintf("%.4f", row.RMSE)
			if len(res.Seeds) > 1 {
				se = fmt.Sprintf("%.4f", row.SE)
			}
		}
		if row.Confirmed > 0 {
			confirmed, confirmedSE = fmt.Sprintf("%.4f", row.Confirmed), fmt.Sprintf("%.4f", row.ConfirmedSE)
		}
		fmt.Fprintf(&b, "%5d %8s %8s %10s %8s %8.1f", row.Trial, rmse, se, confirmed, confirmedSE, row.Seconds)
		for _, p := range res.space {
			fmt.Fprintf(&b, "  %*s", len(short(p.Name)), row.Values[p.Name])
		}
		if row.Error != "" {
			fmt.Fprintf(&b, "  %s", row.Error)
		}
		if row.AtMost > 0 {
			fmt.Fprintf(&b, "  cut at %d epochs", row.AtMost)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\nbest: trial %d, %.4f (SE %.4f) over %d fresh seeds; own settings (trial 0) %.4f; gain %.4f (SE %.4f)\n",
		res.Best.Trial, res.Best.Confirmed, res.Best.ConfirmedSE, len(res.ConfirmSeeds), res.Own.Confirmed, res.Gain.RMSE, res.Gain.SE)
	return b.String()
}

// short is the last part of a setting's name.
func short(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
