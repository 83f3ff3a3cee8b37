package evaluate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Predicted is one system's test predictions, [seed][record].
type Predicted struct {
	Name string
	Test [][]float32
}

// Group is a part of the test records.
type Group struct {
	By   string // the quantity that sorts them, as user_records
	Name string // its values, as 5-19
	At   []int  // positions in the list of test records
}

// GroupByEdges sorts records by a count into bands that begin at the edges, ascending from 0; the last has no end.
func GroupByEdges(by string, counts []int, edges []int) []Group {
	out := make([]Group, len(edges))
	for k, from := range edges {
		out[k] = Group{By: by, Name: strconv.Itoa(from) + "+"}
		if k+1 < len(edges) {
			out[k].Name = band(from, edges[k+1]-1)
		}
	}
	for i, c := range counts {
		k := len(edges) - 1
		for k > 0 && c < edges[k] {
			k--
		}
		out[k].At = append(out[k].At, i)
	}
	return slices.DeleteFunc(out, func(g Group) bool { return len(g.At) == 0 })
}

// GroupByQuantiles sorts records by a count into n bands of about as many records each. Records of one count stay together, so that there may
// be fewer bands.
func GroupByQuantiles(by string, counts []int, n int) []Group {
	sorted := slices.Sorted(slices.Values(counts))
	var edges []int
	for k := range n {
		if from := sorted[k*len(sorted)/n]; len(edges) == 0 || from > edges[len(edges)-1] {
			edges = append(edges, from)
		}
	}
	out := GroupByEdges(by, counts, edges)
	for k := range out {
		values := make([]int, len(out[k].At))
		for j, i := range out[k].At {
			values[j] = counts[i]
		}
		out[k].Name = band(slices.Min(values), slices.Max(values))
	}
	return out
}

func band(from, to int) string {
	if from == to {
		return strconv.Itoa(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// Cohort is how the systems do on a part of the test records.
type Cohort struct {
	By      string         `json:"by"`   // user_records, item_records: training records of the user or item; item_popularity, history: the same in bands of as many test records each
	Name    string         `json:"name"` // band of the quantity
	N       int            `json:"n"`
	Users   int            `json:"users"`
	Systems []CohortSystem `json:"systems"`
}

// CohortSystem is one system on a cohort: means over seeds.
type CohortSystem struct {
	Name string `json:"name"`
	Metrics
	RMSESE     float64         `json:"rmse_se"` // over records, clustered by user
	Difference *CohortContrast `json:"difference,omitempty"`
}

// CohortContrast is the RMSE of a system less that of no_explanations on the same records, below 0 when it is better.
type CohortContrast struct {
	RMSE float64 `json:"rmse"`
	SE   float64 `json:"se"` // clustered by user
	P    float64 `json:"p"`  // two-sided; of many cohorts some fall below .05 by chance
}

// Cohorts measures the systems on each group. base names the system that the others are compared with, if it is there.
func Cohorts(groups []Group, systems []Predicted, base string, truth []float32, user []int32) ([]Cohort, error) {
	var out []Cohort
	for _, g := range groups {
		y, users := pick(truth, g.At), pick(user, g.At)
		c := Cohort{By: g.By, Name: g.Name, N: len(g.At), Users: distinct(users)}
		var against [][]float32
		for _, s := range systems {
			if s.Name == base {
				against = s.of(g.At)
			}
		}
		for _, s := range systems {
			line := CohortSystem{Name: s.Name}
			preds := s.of(g.At)
			for _, p := range preds {
				m, err := Measure(p, y)
				if err != nil {
					return nil, fmt.Errorf("%s, %s %s: %w", s.Name, g.By, g.Name, err)
				}
				n := float64(len(preds))
				line.RMSE, line.MAE, line.AUC = line.RMSE+m.RMSE/n, line.MAE+m.MAE/n, line.AUC+m.AUC/n
			}
			var err error
			if line.RMSESE, err = rmseSE(preds, y, users); err != nil {
				return nil, err
			}
			if against != nil && s.Name != base {
				if line.Difference, err = contrast(preds, against, y, users); err != nil {
					return nil, err
				}
			}
			c.Systems = append(c.Systems, line)
		}
		out = append(out, c)
	}
	return out, nil
}

// contrast compares seed with seed; a system of one prediction is compared with each seed of the other.
func contrast(a, b [][]float32, truth []float32, user []int32) (*CohortContrast, error) {
	n := max(len(a), len(b))
	var pa, pb, y []float32
	var users []int32
	for s := range n {
		pa, pb = append(pa, a[s%len(a)]...), append(pb, b[s%len(b)]...)
		y, users = append(y, truth...), append(users, user...)
	}
	p, err := Compare(pa, pb, y, users)
	return &CohortContrast{p.RMSE, p.SE, p.P}, err
}

// rmseSE is the standard error of the RMSE over the errors of all seeds, clustered by user, by the delta method.
func rmseSE(preds [][]float32, truth []float32, user []int32) (float64, error) {
	of, err := clusters(preds, preds, truth, user)
	if err != nil {
		return 0, err
	}
	var sum, n, ss float64
	for _, c := range of {
		sum, n = sum+c.a, n+c.n
	}
	mse := sum / n
	for _, c := range of {
		inf := influence(c.a, c.n, mse, math.Sqrt(mse))
		ss += inf * inf
	}
	g := float64(len(of))
	if g < 2 {
		return 0, nil
	}
	return math.Sqrt(ss*g/(g-1)) / n, nil
}

func (p Predicted) of(at []int) [][]float32 {
	out := make([][]float32, len(p.Test))
	for s := range p.Test {
		out[s] = pick(p.Test[s], at)
	}
	return out
}

func pick[T any](xs []T, at []int) []T {
	out := make([]T, len(at))
	for k, i := range at {
		out[k] = xs[i]
	}
	return out
}

func distinct(xs []int32) int {
	seen := map[int32]bool{}
	for _, x := range xs {
		seen[x] = true
	}
	return len(seen)
}
