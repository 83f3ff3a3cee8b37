package adapters

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"recpie/internal/fault"
)

// TestHeld: a server that was away is the same when its canary is, up to rounding.
func TestHeld(t *testing.T) {
	gone := errors.New("gone")
	for name, tc := range map[string]struct {
		first, then []float64
		err         error
		want        string // in the error; "": none
	}{
		"the same":       {[]float64{-1, -2}, []float64{-1, -2}, nil, ""},
		"rounded":        {[]float64{-1, -2}, []float64{-1.02, -1.97}, nil, ""},
		"other weights":  {[]float64{-1, -2}, []float64{-1, -2.4}, nil, "other weights"},
		"other tokens":   {[]float64{-1, -2}, []float64{-1, -2, -3}, nil, "other weights"},
		"no number":      {[]float64{-1, -2}, []float64{-1, math.NaN()}, nil, "NaN"},
		"gone again":     {[]float64{-1, -2}, nil, gone, "gone"},
		"cannot score":   {nil, []float64{-1}, nil, ""},
		"scores nothing": {[]float64{math.Inf(-1)}, []float64{-1}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := tc.first, error(nil)
			if tc.first == nil {
				err = gone
			}
			h := &Held{Canary: func(context.Context) ([]float64, error) { return answer, err }}
			h.Note(t.Context())
			answer, err = tc.then, tc.err
			switch err := h.Same(t.Context()); {
			case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v", err)
			case tc.want == "other weights" && (fault.ClassOf(err) != fault.Endpoint || fault.HintOf(err) == ""):
				t.Errorf("class %v, hint %q", fault.ClassOf(err), fault.HintOf(err))
			}
		})
	}
}
