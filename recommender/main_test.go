package recommender

import (
	"os"
	"testing"

	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	os.Exit(m.Run())
}
