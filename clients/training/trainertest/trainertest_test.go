package trainertest

import (
	"reflect"
	"testing"
)

func TestProtocol(t *testing.T) {
	t.Parallel()
	Server{URL: NewFake(t, Deviations{}).URL, Base: "table"}.Exercise(t)
}

func TestSkyRLsDeviations(t *testing.T) {
	t.Parallel()
	Server{URL: NewFake(t, SkyRL()).URL, Base: "table"}.Exercise(t)
}

// Each deviation alone, so that a failure names the one that the client does not bear. Some come together by their nature.
func TestEachDeviation(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Deviations]()
	for i := range fields.NumField() {
		t.Run(fields.Field(i).Name, func(t *testing.T) {
			t.Parallel()
			var how Deviations
			reflect.ValueOf(&how).Elem().Field(i).SetBool(true)
			how.NoPPO = how.NoPPO || how.NoImportance
			how.NoLossSum = how.NoLossSum || how.MeanGradients // by which the client recognises the server
			how.OpaqueIDs = how.OpaqueIDs || how.SharedSlot || how.MeanGradients || how.SavesByName
			f := NewFake(t, how)
			Server{URL: f.URL, Base: "table"}.Exercise(t)
			if f.softRows > 0 {
				t.Errorf("%d data with soft rows were sent to a server that does not know them", f.softRows)
			}
		})
	}
}
