package orchestrator

import (
	"fmt"
	"slices"

	"recpie/internal/evaluate"
	"recpie/recommender"
)

// Bands of training records in which users and items are told apart: unknown, cold, few, warm.
var warmth = []int{0, 1, 5, 20}

// bandsOfEqualSize is the number of bands of popularity and of length of the history.
const bandsOfEqualSize = 5

// evaluate fills what the report says beyond the mean errors. results are the compared systems in the order of the report; explained names the one
// whose calibration is shown beside that of no_explanations, "" for none.
func (l *Lab) evaluate(report *evaluate.Report, results []*Result, explained string) error {
	w := l.Work
	truth, users := w.Data.Labels(w.Split.Test), l.testUsers()
	systems := []evaluate.Predicted{{Name: "biases", Test: [][]float32{w.Final.Net.Bias.Predict(w.Data, w.Split.Test)}}}
	for _, res := range results {
		systems = append(systems, evaluate.Predicted{Name: tableName(res.Name), Test: res.Test})
	}
	var err error
	if report.Cohorts, err = evaluate.Cohorts(l.cohorts(), systems, "no_explanations", truth, users); err != nil {
		return err
	}
	for _, name := range []string{"no_explanations", explained} {
		for _, res := range results {
			if res.Name != name {
				continue
			}
			c, err := l.calibration(res, truth)
			if err != nil {
				return err
			}
			report.Calibration = append(report.Calibration, *c)
		}
	}
	if l.Ranker != nil {
		report.Ranking, err = l.Ranker.Report(results)
	}
	return err
}

// tableName is the name under which the report lists a result.
func tableName(name string) string {
	var k int
	if n, err := fmt.Sscanf(name, "round-%d", &k); n == 1 && err == nil {
		return fmt.Sprintf("rounds[%d]", k)
	}
	return name
}

// cohorts sorts the test records by what the final side shows of their users and items.
func (l *Lab) cohorts() []evaluate.Group {
	view, test := l.Work.Final.View, l.Work.Split.Test
	ofUser, ofItem, history := make([]int, len(test)), make([]int, len(test)), make([]int, len(test))
	for k, r := range test {
		rec := l.Work.Data.Records[r]
		ofUser[k], ofItem[k], history[k] = len(view.OfUser(rec.User)), len(view.OfItem(rec.Item)), len(view.History(r))
	}
	return slices.Concat(
		evaluate.GroupByEdges("user_records", ofUser, warmth), evaluate.GroupByEdges("item_records", ofItem, warmth),
		evaluate.GroupByQuantiles("item_popularity", ofItem, bandsOfEqualSize), evaluate.GroupByQuantiles("history", history, bandsOfEqualSize))
}

// calibration judges the pooled predictions of the seeds, and their standard deviations as brought to size on validation.
func (l *Lab) calibration(res *Result, truth []float32) (c *evaluate.Calibration, err error) {
	test := pooled(res.Test, res.SD)
	switch {
	case l.Settings.Loss == recommender.BCE:
		c, err = evaluate.CalibrateClick(test.Y, truth)
	default:
		c, err = evaluate.Calibrate(test.Y, truth)
	}
	if err != nil {
		return nil, err
	}
	c.System = tableName(res.Name)
	if test.SD == nil {
		return c, nil
	}
	val := pooled(res.ValY, res.ValSD)
	factor, err := evaluate.Recalibrate(val.Y, l.Work.Data.Labels(l.Work.Split.Val), val.SD)
	if err != nil {
		return nil, err
	}
	if c.Spread, err = evaluate.MeasureSpread(test.Y, truth, test.SD, factor); err != nil {
		return nil, err
	}
	c.RawSpread, err = evaluate.MeasureSpread(test.Y, truth, test.SD, 1)
	return c, err
}

// pooled is the deep ensemble's prediction of the seeds.
func pooled(ys, sds [][]float32) *recommender.Predictions {
	members := make([]*recommender.Predictions, len(ys))
	for s := range ys {
		members[s] = &recommender.Predictions{Y: ys[s], SD: sds[s], Attention: make([][6]float32, len(ys[s]))}
	}
	return recommender.Pool(members)
}
