// Package prompts writes what the language model is asked and reads what it answers. It does not know who serves the model.
//
// The two instructions are the paper's, word for word (RecPIE paper, appendix A.1):
//
//	Provide a reason for why this user purchased (or did not purchase) this product, based on the provided profile of the past products the user
//	purchased, and the profile of the current product. Answer with exactly one sentence in the following format: 'The user purchased (or did not
//	purchase) this product because the user ... and the product ...'.
//
// with the verb and the noun of the data's domain ("adapt the verb to the domain"). The order is ours:
//
//	[soft prompt] history | profile of the candidate | instruction
//
// so that what prompts share comes first: a user's prompts share their history, whose window moves in blocks, and the two prompts of a pair share
// all but the instruction. The soft rows stand before the text and are not this package's business.
//
// Of the profile, the verdicts per term are ours too: how the user has rated items with the term, and what other users thought. An explanation adds to a
// prediction only what the recommender does not have already, and these words are the one content that was found to do so.
//
// Every text that comes from data is untrusted: it stands on one line, in one slot, without a character from which a chat template's control
// tokens are made.
package prompts
