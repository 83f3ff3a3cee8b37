package recommender

import (
	"fmt"

	"recpie/internal/fault"
)

// Loss names what is minimised.
type Loss string

// MSE regresses y; BCE predicts the click, y ≥ ClickAt.
const (
	MSE Loss = "mse"
	BCE Loss = "bce"

	ClickAt = .75 // y from which a rating counts as liked (r ≥ 4 of 5)
)

// Settings holds the network's sizes and the optimiser's settings.
type Settings struct {
	Dim          int     `json:"dim"`           // of every embedding
	Heads        int     `json:"heads"`         // of both attention layers
	History      int     `json:"history"`       // latest products of the user that the sequence block reads
	Hidden       [2]int  `json:"hidden"`        // of both MLPs: over the attention layer's output, and over features and texts
	InputDropout float64 `json:"input_dropout"` // on features and explanation vectors
	Dropout      float64 `json:"dropout"`       // on hidden units
	NoSequence   float64 `json:"no_sequence"`   // share of training records whose sequence embedding is left out
	NoText       float64 `json:"no_text"`       // share of training records whose explanations are left out, so that predictions hold without them
	Residual     bool    `json:"residual"`      // around the attention layer over the six embeddings
	Pieces       int     `json:"pieces"`        // of the piecewise linear encoding of each feature
	Loss         Loss    `json:"loss"`
	LR           float64 `json:"lr"`       // of the first epoch
	LRDecay      float64 `json:"lr_decay"` // factor per epoch
	Batch        int     `json:"batch"`
	WeightDecay  float64 `json:"weight_decay"` // of all weights but the embeddings of ids (AdamW)
	IDL2         float64 `json:"id_l2"`        // times the batch's mean squared norm of consumer and product embeddings, added to the loss
	Clip         float64 `json:"clip"`         // of the gradient's global norm
	Patience     int     `json:"patience"`     // epochs without a better validation RMSE before training stops
	MaxEpochs    int     `json:"max_epochs"`
	Without      Without `json:"without"`
}

// Without switches inputs off for an ablation. In the place of one stands what the network knows of an unknown user, an unknown item, an
// empty history, or the mean statistics. The biases stay.
type Without struct {
	Consumer bool `json:"consumer,omitempty"`
	Product  bool `json:"product,omitempty"`
	Sequence bool `json:"sequence,omitempty"`
	Context  bool `json:"context,omitempty"`
	Text     bool `json:"text,omitempty"` // the item's own text, and what reviews by the user and of the item say
}

// DefaultSettings returns the settings found on validation, for a training set of n records.
func DefaultSettings(n int) Settings {
	s := Settings{Dim: 32, Heads: 2, History: 20, Hidden: [2]int{64, 32}, InputDropout: .1, Dropout: .3, Pieces: 16, NoSequence: .5, NoText: .1, Loss: MSE,
		LR: 1e-3, LRDecay: .7, Batch: 256, WeightDecay: 1e-3, IDL2: 1, Clip: 1, Patience: 3, MaxEpochs: 15}
	if n >= 40000 {
		s.LR, s.Batch = 2e-3, 1024
	}
	return s
}

func (s Settings) check() error {
	bad := ""
	switch {
	case s.Dim < 1 || s.Heads < 1 || s.Dim%s.Heads != 0:
		bad = fmt.Sprintf("dim %d is no multiple of heads %d", s.Dim, s.Heads)
	case s.History < 1 || s.History > 1000:
		bad = fmt.Sprintf("history %d is outside 1..1000", s.History)
	case s.Hidden[0] < 1 || s.Hidden[1] < 1:
		bad = fmt.Sprintf("hidden sizes %v", s.Hidden)
	case s.Pieces < 1 || s.Pieces > 1000:
		bad = fmt.Sprintf("pieces %d is outside 1..1000", s.Pieces)
	case s.NoSequence < 0 || s.NoSequence >= 1 || s.NoText < 0 || s.NoText >= 1:
		bad = fmt.Sprintf("left-out shares %v, %v are outside [0,1)", s.NoSequence, s.NoText)
	case s.InputDropout < 0 || s.InputDropout >= 1 || s.Dropout < 0 || s.Dropout >= 1:
		bad = fmt.Sprintf("dropout %v, %v is outside [0,1)", s.InputDropout, s.Dropout)
	case s.Loss != MSE && s.Loss != BCE:
		bad = fmt.Sprintf("loss %q is neither %q nor %q", s.Loss, MSE, BCE)
	case !(s.LR > 0) || !(s.LRDecay > 0) || s.LRDecay > 1 || s.Batch < 1 || s.WeightDecay < 0 || s.IDL2 < 0 || s.Clip < 0 || s.Patience < 1 || s.MaxEpochs < 1:
		bad = "learning rate, its decay (at most 1), batch, patience and epochs must be positive, weight decay, id_l2 and clip not negative"
	}
	if bad == "" {
		return nil
	}
	return fault.Newf(fault.Fatal, "recommender: settings", "%s", bad)
}
