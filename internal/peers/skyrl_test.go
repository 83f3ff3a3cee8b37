//go:build peers

package peers

import (
	"testing"

	"recpie/clients/training/trainertest"
)

// TestSkyRL runs the suite of the training client over a real SkyRL server, which scripts/peers/skyrl.sh starts.
func TestSkyRL(t *testing.T) {
	trainertest.Server{URL: need(t, "RECPIE_SKYRL_URL"), Base: need(t, "RECPIE_SKYRL_MODEL")}.Exercise(t)
}
