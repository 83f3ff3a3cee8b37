// Package feature computes the context statistics of every record: what the user's other ratings, the item's other ratings, similar
// users and items, and the clock say about the pair.
//
// All of it is leave-one-out. Outcomes enter only through a dataset.View, and a record's own outcome never enters its own row:
//
//   - a user's record is measured against d_j, the mean of the OTHER users' deviations on that item, so that no deviation of the
//     user's other records contains the outcome of the target;
//   - other users' deviations are taken from their own plain means, which do not contain it either;
//   - the global mean is split in two halves by a hash of the record, and a target uses the half it is not in;
//   - sums are made of multiples of 2^-32, so that taking a record out of one gives the very number that leaving it out would give.
//
// The set of statistics is our choice, found by ablation; standardisation belongs to the network (package recommender).
package feature
