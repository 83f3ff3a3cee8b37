package tune

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"recpie/internal/evaluate"
)

// valley is an objective with its lowest point at rate .01, on which chance lies by seed and values.
type valley struct {
	noise float64
	takes func(Trial) time.Duration
	fails func(Trial) bool

	mu    sync.Mutex
	calls []Trial
}

func (v *valley) measure(ctx context.Context, t Trial) (Outcome, error) {
	v.mu.Lock()
	v.calls = append(v.calls, t)
	v.mu.Unlock()
	if v.takes != nil {
		select {
		case <-time.After(v.takes(t)):
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
	}
	if v.fails != nil && v.fails(t) {
		return Outcome{}, errors.New("these values <script>cannot</script> be")
	}
	rate, err := strconv.ParseFloat(t.Values["rate"], 64)
	if err != nil {
		return Outcome{}, err
	}
	h := fnv.New64a()
	b, _ := json.Marshal([]any{t.Values, t.Seed})
	_, _ = h.Write(b)
	chance := float64(h.Sum64()%1000)/1000 - .5
	return Outcome{.2 + .05*math.Abs(math.Log10(rate)+2) + v.noise*chance, 4}, nil
}

func search(v *valley) Search {
	return Search{Model: "valley", Space: Space{{"kind", Range{Choices: []string{"a", "b"}}}, {"rate", Range{Low: 1e-4, High: 1, Log: true}}}, Start: Values{"rate": "0.5", "kind": "own"},
		Objective: v.measure, Trials: 20, Parallel: 1, Seed: 3, Seeds: []int64{1}, Finalists: 3, ConfirmSeeds: []int64{2, 3, 4}}
}

func mustRun(t *testing.T, s Search, dir string) *Result {
	t.Helper()
	res, err := s.Run(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// confirmed lists the trials that were measured again.
func confirmed(res *Result) (trials []int) {
	for _, r := range res.Trials {
		if r.Confirmed > 0 {
			trials = append(trials, r.Trial)
		}
	}
	return trials
}

// untimed compares results but for the clock.
var untimed = cmp.Options{cmpopts.IgnoreFields(Row{}, "Seconds", "At"), cmpopts.IgnoreFields(Result{}, "Seconds"), cmpopts.IgnoreUnexported(Result{})}

func TestSearchFindsTheValley(t *testing.T) {
	res := mustRun(t, search(&valley{}), t.TempDir())
	rate, _ := strconv.ParseFloat(res.Best.Values["rate"], 64)
	if math.Abs(math.Log10(rate)+2) > .3 || res.Best.RMSE != res.Trials[0].RMSE {
		t.Errorf("best is %+v", res.Best)
	}
	if res.Own.Trial != 0 || math.Abs(res.Own.Confirmed-(.2+.05*math.Abs(math.Log10(.5)+2))) > 1e-12 || math.Abs(res.Gain.RMSE-(res.Own.Confirmed-res.Best.Confirmed)) > 1e-12 || res.Gain.RMSE < .05 {
		t.Errorf("own %+v, gain %+v", res.Own, res.Gain)
	}
	if !slices.IsSortedFunc(res.Trials, func(a, b Row) int { return int(math.Copysign(1, a.RMSE-b.RMSE)) }) || len(res.Trials) != 20 {
		t.Errorf("%d trials out of order", len(res.Trials))
	}
}

// Any number of workers and any order in which they finish try and find the same.
func TestOrderChangesNothing(t *testing.T) {
	for _, halving := range []bool{false, true} {
		var want *Result
		for parallel := 1; parallel <= 5; parallel++ {
			synctest.Test(t, func(t *testing.T) {
				v := &valley{noise: .1, takes: func(tr Trial) time.Duration {
					return time.Duration((tr.Index*7919+int(tr.Seed)*5+parallel*31)%13+1) * time.Second
				},
					fails: func(tr Trial) bool { return tr.Index%5 == 4 }}
				s := search(v)
				s.Parallel, s.Halving, s.Epochs, s.Seeds = parallel, halving, 18, []int64{1, 7}
				got := mustRun(t, s, t.TempDir())
				if want == nil {
					want = got
				}
				if d := cmp.Diff(want, got, untimed); d != "" {
					t.Errorf("%d workers: %s", parallel, d)
				}
			})
		}
		if want.Failed != 4 {
			t.Errorf("%d failed", want.Failed)
		}
	}
}

// What a seed alone made look best is found out by fresh seeds: the finalists' mean decides, and own settings are always measured.
func TestFreshSeedsDecide(t *testing.T) {
	better := 0
	for seed := range int64(40) {
		s := search(&valley{noise: .2})
		s.Seed = seed
		res := mustRun(t, s, t.TempDir())
		for _, r := range res.Trials {
			if r.Confirmed > 0 && r.Confirmed < res.Best.Confirmed {
				t.Fatalf("trial %d is better than the best", r.Trial)
			}
		}
		if res.Best.Confirmed > res.Trials[0].RMSE {
			better++
		}
		if res.Own.Confirmed == 0 || res.Gain.RMSE < 0 {
			t.Errorf("own %+v, gain %+v", res.Own, res.Gain)
		}
	}
	if better < 35 {
		t.Errorf("in %d of 40 searches the first place was too good to be true: the test shows nothing", better)
	}
}

// A search that is stopped at any moment and continued finds what an unbroken one does, and measures again only what was running.
func TestStoppedSearchContinues(t *testing.T) {
	const workers = 3
	takes := func(tr Trial) time.Duration { return time.Duration((tr.Index+int(tr.Seed))%4+1) * time.Second }
	var want *Result
	synctest.Test(t, func(t *testing.T) {
		s := search(&valley{noise: .1, takes: takes})
		s.Parallel, s.Seeds = workers, []int64{1, 8}
		want = mustRun(t, s, t.TempDir())
	})
	for stop := 500 * time.Millisecond; stop < 50*time.Second; stop += 3300 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			dir, v := t.TempDir(), &valley{noise: .1, takes: takes}
			s := search(v)
			s.Parallel, s.Seeds = workers, []int64{1, 8}
			why := errors.New("told to stop")
			ctx, cancel := context.WithTimeoutCause(t.Context(), stop, why)
			defer cancel()
			if _, err := s.Run(ctx, dir); err != nil && !errors.Is(err, why) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			first := len(v.calls)
			j := reopen(t, dir)
			if first-len(j.records) > workers {
				t.Errorf("stopped after %v: %d begun, %d kept", stop, first, len(j.records))
			}
			got := mustRun(t, s, dir)
			if d := cmp.Diff(want, got, untimed); d != "" {
				t.Errorf("stopped after %v: %s", stop, d)
			}
			if again := len(v.calls) - first + len(j.records); again != len(reopen(t, dir).records) {
				t.Errorf("stopped after %v: %d measurements for %d", stop, again, len(reopen(t, dir).records))
			}
		})
	}
}

func TestBudgetOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, v := t.TempDir(), &valley{takes: func(Trial) time.Duration { return time.Minute }}
		s := search(v)
		s.Trials, s.Budget, s.Parallel = 0, 10*time.Minute+30*time.Second, 2
		began := time.Now()
		res := mustRun(t, s, dir)
		if len(res.Trials) != 20 || res.Seconds != 600 {
			t.Errorf("%d trials in %v s", len(res.Trials), res.Seconds)
		}
		if took := time.Since(began); took != s.Budget+time.Duration(3*len(confirmed(res))+1)/2*time.Minute { // fits of the confirmation by two workers
			t.Errorf("it took %v", took)
		}
		// The rest of the budget lets no trial finish; more of it lets some.
		if again := mustRun(t, s, dir); len(again.Trials) != 20 {
			t.Errorf("%d trials after the budget", len(again.Trials))
		}
		s.Budget += 2 * time.Minute
		if more := mustRun(t, s, dir); len(more.Trials) != 24 {
			t.Errorf("%d trials with two minutes more", len(more.Trials))
		}
	})
}

// With several seeds a trial counts when it has them all, also when a number of trials is given beside the budget.
func TestBudgetWithSeeds(t *testing.T) {
	for _, trials := range []int{0, 50} {
		synctest.Test(t, func(t *testing.T) {
			s := search(&valley{noise: .1, takes: func(Trial) time.Duration { return time.Minute }})
			s.Trials, s.Budget, s.Parallel, s.Seeds = trials, 10*time.Minute+30*time.Second, 1, []int64{1, 5, 9}
			res := mustRun(t, s, t.TempDir())
			if len(res.Trials) != 3 || res.Trials[0].SE == 0 || res.Failed != 0 {
				t.Errorf("%d trials: %+v", len(res.Trials), res.Trials)
			}
		})
	}
}

// A budget that is too short for any trial still measures the model's own settings.
func TestShortBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := search(&valley{takes: func(Trial) time.Duration { return time.Hour }})
		s.Budget, s.Parallel = time.Minute, 4
		res := mustRun(t, s, t.TempDir())
		if len(res.Trials) != 1 || res.Best.Trial != 0 {
			t.Errorf("%d trials, best %d", len(res.Trials), res.Best.Trial)
		}
	})
}

func TestHalving(t *testing.T) {
	v := &valley{}
	s := search(v)
	s.Trials, s.Halving, s.Epochs = 18, true, 20
	res := mustRun(t, s, t.TempDir())
	count := map[int]int{}
	for _, c := range v.calls[:18+6+2] {
		count[c.AtMost]++
	}
	if want := map[int]int{3: 18, 7: 6, 0: 2}; !cmp.Equal(count, want) {
		t.Errorf("epochs and trials %v, want %v", count, want)
	}
	whole := search(&valley{})
	whole.Trials = 18
	plain := mustRun(t, whole, t.TempDir())
	if res.Best.Trial != plain.Best.Trial {
		t.Errorf("best is %d, without halving %d", res.Best.Trial, plain.Best.Trial)
	}
	for epochs, want := range map[int][]int{1: {0}, 2: {1, 0}, 3: {1, 0}, 9: {1, 3, 0}, 10: {2, 4, 0}} {
		if got := stagesOf(epochs); !slices.Equal(got, want) {
			t.Errorf("stages of %d epochs: %v, want %v", epochs, got, want)
		}
	}
}

func TestFailures(t *testing.T) {
	all := search(&valley{fails: func(Trial) bool { return true }})
	if _, err := all.Run(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("all failed: %v", err)
	}
	dir := t.TempDir()
	s := search(&valley{fails: func(tr Trial) bool { return tr.Index == 0 }})
	res := mustRun(t, s, dir)
	if res.Failed != 1 || res.Best.Trial == 0 || res.Own.Confirmed != 0 || res.Trials[len(res.Trials)-1].Error == "" {
		t.Errorf("%d failed, best %+v", res.Failed, res.Best)
	}
	html, err := res.HTML()
	if err != nil || strings.Contains(string(html), "<script>") || !strings.Contains(string(html), "&lt;script&gt;") {
		t.Errorf("the page shows an error as it is: %v", err)
	}
	s.Objective = func(context.Context, Trial) (Outcome, error) { return Outcome{RMSE: math.NaN()}, nil }
	if _, err := s.Run(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "finite") {
		t.Errorf("NaN was measured: %v", err)
	}
	s.Seed++ // the values of the trials are others now
	if _, err := s.Run(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another search") {
		t.Errorf("a foreign folder was continued: %v", err)
	}
	for name, change := range map[string]func(*Search){
		"space": func(s *Search) { s.Space = nil }, "budget": func(s *Search) { s.Trials = 0 }, "own": func(s *Search) { s.Start = nil }, "workers": func(s *Search) { s.Parallel = 0 },
		"halving": func(s *Search) { s.Halving = true },
	} {
		s := search(&valley{})
		change(&s)
		if _, err := s.Run(t.Context(), t.TempDir()); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

// The files say what the result does.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	res := mustRun(t, search(&valley{noise: .02}), dir)
	res.Data = "a & b"
	if err := res.Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tune.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(res, &back, cmpopts.IgnoreUnexported(Result{})); d != "" {
		t.Error(d)
	}
	page, err := os.ReadFile(filepath.Join(dir, "tune.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(page), "<svg"); n != 4 { // two courses, two settings
		t.Errorf("%d plots", n)
	}
	text := res.Text()
	for _, want := range []string{"valley on a & b", "rate", "kind", "own", "best: trial " + strconv.Itoa(res.Best.Trial)} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
	j := reopen(t, dir)
	var again []float64
	for _, seed := range res.ConfirmSeeds {
		again = append(again, j.find(key{trial: res.Best.Trial, confirms: true, seed: seed}).RMSE)
	}
	mean, se := evaluate.MeanSE(again)
	if mean != res.Best.Confirmed || se != res.Best.ConfirmedSE {
		t.Errorf("%v ± %v, the journal says %v ± %v", res.Best.Confirmed, res.Best.ConfirmedSE, mean, se)
	}
}
