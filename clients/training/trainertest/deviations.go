package trainertest

// Deviations are ways in which servers differ from the protocol. The zero value is a server that follows it.
type Deviations struct {
	OpaqueIDs         bool // model ids are the server's own, as "model_1"
	NoLossSum         bool // passes return elementwise_loss and no metric
	MeanGradients     bool // a datum's gradient is divided by the sum of its weights, 1 each when left out
	NoViaLoad         bool // load_weights needs model_id; it is a model's first request or refused
	PlainSamplerPaths bool // tinker://M/name
	ShortPrompts      bool // prompt log-probabilities lack the undefined first one
	NoSequenceIDs     bool // asample answers without sample_sequence_ids
	SharedSlot        bool // a snapshot is sampled through the weights in training, which it replaces unless it is the one there
	RunsTwice         bool // a number that was seen is run again
	SavesByName       bool // save requests do not have numbers: a name that is taken is 409
	Failures400       bool // what failed is 400 {"detail"} instead of 200 {"error"}
	Interim408        bool // what is not ready is 408 instead of try_again
	RefusesAtOnce     bool // unknown losses are 422 when they are sent
	RootFolder        bool // archives begin with a folder "/"
	NoImportance      bool // importance_sampling is unknown as well as ppo
	NoPPO             bool // ppo is unknown
}

// SkyRL returns what SkyRL 0.4.0 with its JAX backend does, as read in its source and seen on a real one.
func SkyRL() Deviations {
	return Deviations{OpaqueIDs: true, NoLossSum: true, MeanGradients: true, NoViaLoad: true, PlainSamplerPaths: true, ShortPrompts: true, NoSequenceIDs: true,
		SharedSlot: true, SavesByName: true, Failures400: true, Interim408: true, RefusesAtOnce: true, RootFolder: true}
}
