// Package text turns what items say of themselves, and what reviewers say of items, into short vectors: tf-idf weights of words, reduced
// to their strongest directions (latent semantic analysis: Deerwester et al. 1990).
//
// Vocabulary, weights and directions are parameters fitted on a view, as the weights of a network are. What a record gets through them is
// the mean of its user's and of its item's other visible reviews: never its own.
package text
