package adapters

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"recpie/internal/safetensors"
)

// checkWeights demands at least one pair of LoRA matrices and nothing but finite numbers, and says whether all B are zero.
func checkWeights(f *safetensors.File) (zeroB bool, err error) {
	zeroB = true
	matrices := 0
	for _, name := range f.Names() {
		data, _, err := f.Float32(name)
		if err != nil {
			return false, err
		}
		isB := strings.Contains(name, "lora_B") || strings.Contains(name, "lora_embedding_B")
		if isB {
			matrices++
		}
		for i, x := range data {
			if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
				return false, fmt.Errorf("%s: %s: value %d is not finite", WeightsFile, name, i)
			}
			if isB && x != 0 {
				zeroB = false
			}
		}
	}
	if matrices == 0 {
		return false, errors.New(WeightsFile + " holds no LoRA matrix")
	}
	return zeroB, nil
}
