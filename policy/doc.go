// Package policy trains the explanation writer from the recommender's error (the RecPIE paper, section 2.1: "fine-tuned via PPO"). It takes numbers
// and token ids, never recommenders or HTTP, and owns the projection that turns a consumer's embedding into soft-prompt rows.
//
// What one step does:
//
//	rewards (eq. 1)                  one per alternative text, by Reward and, if wanted, Counterfactual or Crossed
//	→ Advantages                     minus the mean of the other alternatives of the SAME pair, scaled by the batch
//	→ per-token advantages           minus β·(log π_old − log π_ref), divided by the tokens of the minibatch
//	→ Trainer.ForwardBackward        the clipped surrogate, on the training server
//	→ Trainer.OptimStep, Projection  the adapter there, the projection here, from the gradients that came back
//
// Everything in the paper beyond eq. 1 and the word PPO is our choice. Two deserve a reason. The baseline is the mean over alternatives of one pair
// because a choice of words moves the prediction by about .01: differences between pairs drown it, and whitening over a batch alone learns
// nothing. There is no token critic and no GAE because training APIs have no value head; a ridge regression on the caller's features
// (Critic) stands in where a pair has only one usable alternative.
//
// Letters in shapes: G group (the alternatives of one pair and polarity), T text, N positions of a datum (tokens less one), K soft rows, H hidden size
// of the language model, D width of the consumer's embedding.
package policy
