package torch

import (
	"os"
	"testing"

	"recpie/internal/torch/reexec"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	SetThreads(1)
	os.Exit(m.Run())
}
