// Package dataset reads rated records, splits them by user and time, and guards what a model may see of them.
//
// A record is one (user, item) pair with a time. What the pair led to — rating, review, aspects, every column that is not
// on the allow-list of inputs — is an outcome. Outcomes are unexported: the only ways to them are a View, which answers for visible
// records alone, and Dataset.Labels, the answer key that training targets and scores are read from.
//
// Order of a user's records: (time, row in the file), a missing time first. Users with fewer than five records take no part.
// A user's first ⌊.8 n⌋ records are for training, and the last max(1, ⌊.1 n_train⌋) of those for validation.
//
// Everything is immutable after it is made, so values may be shared between goroutines.
package dataset
