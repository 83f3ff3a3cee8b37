// Package training is the client of an adapter-training server (the Tinker REST contract): sessions kept alive by heartbeats, models
// trained by forward_backward and optim_step, checkpoints saved, loaded and downloaded. Slow calls answer at once with a future; the
// client hands out Pending values, so that a pass and its optimizer step are in flight together.
//
// Order is the protocol's: every request of a model carries the next seq_id, and after a network error the same bytes with the same
// seq_id are sent again, which a server answers with the original future. When it stays unknown whether a request arrived, the model
// is given up with an error: later numbers would wait for the missing one. Restore it from a checkpoint with CreateFromCheckpoint.
package training
