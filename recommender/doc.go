// Package recommender is the DNN of RecPIE: it predicts the rating of a user for an item from six embeddings, of the positive
// explanation, the negative explanation, the consumer, the product, the sequential history and the context, through an attention
// layer whose weights are returned (the paper, section 2.2 and App. D.5, eq. 11).
//
//	ŷ = base + MLP(flatten(LN(α V W_O)), context features)
//
// base is the bias model of package bias, cross-fitted for training records; the context statistics are those of package feature.
// The paper gives no sizes. Ours: 64 dimensions, two heads, no residual around the attention layer (a residual lets the network
// solve the task with flat attention), last layer initialised to zero so that training starts at the biases. The context features
// also enter the MLP directly: squeezed through a normalised 64-dimensional token alone they lose their scale.
//
// One model serves one view: Data carries the view with its bias model and features. Fit with a training view and validation
// records chooses the number of epochs; a second Fit on the final view for that many epochs gives the model for test records.
package recommender
