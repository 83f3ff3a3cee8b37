package lmserver

import (
	"math"

	"recpie/internal/lm"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

func encodeSample(res *lm.GenResult, req *sampleRequest, prompt int) *pb.SampleResponse {
	out := &pb.SampleResponse{PromptCacheHitTokens: int32(res.CachedTokens)}
	for i := range res.Choices {
		c := &res.Choices[i]
		seq := &pb.SampledSequence{Tokens: tinker.Int32Bytes(c.Tokens), Logprobs: tinker.Float32Bytes(c.Logprobs)}
		if c.FinishReason == "length" {
			seq.StopReason = pb.SampledSequence_LENGTH
		}
		if req.TopKSample > 0 {
			seq.TopkSampledLogprobs = encodeTopK(c.Top, req.TopKSample)
		}
		out.Sequences = append(out.Sequences, seq)
	}
	if req.PromptLogprobs {
		lps := make([]float32, prompt)
		for i := range lps {
			lps[i] = float32(math.NaN())
			if i > 0 && i < len(res.PromptLogprobs) {
				lps[i] = res.PromptLogprobs[i].Logprob
			}
		}
		out.PromptLogprobs = tinker.Float32Bytes(lps)
	}
	if req.TopKPrompt > 0 {
		out.TopkPromptLogprobs = encodeTopK(res.PromptTop, req.TopKPrompt)
	}
	return out
}

// encodeTopK packs the k likeliest tokens per position; undefined entries are id 0 with −99999, as the contract says.
func encodeTopK(tops [][]lm.TokenLogprob, k int) *pb.TopkLogprobs {
	k = min(k, maxLogprobs)
	ids, lps := make([]int32, k*len(tops)), make([]float32, k*len(tops))
	for i := range lps {
		lps[i] = -99999
	}
	for i, top := range tops {
		for _, t := range top {
			if t.Rank >= 1 && t.Rank <= k {
				ids[i*k+t.Rank-1], lps[i*k+t.Rank-1] = t.ID, t.Logprob
			}
		}
	}
	return &pb.TopkLogprobs{TokenIds: tinker.Int32Bytes(ids), Logprobs: tinker.Float32Bytes(lps), K: uint32(k), Length: uint32(len(tops))}
}
