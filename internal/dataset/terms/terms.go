// Package terms describes items by a small vocabulary and says, per record, how the user has rated each term before and what other users thought.
//
// The vocabulary is genres and decades where items carry shared categories, else some forty words mined from the visible reviews.
// Every number and every word about a visible record is computed with the record's whole fold left out — vocabulary, candidate
// terms, means, quantiles — so that a record's own outcome never reaches what is said about it. Records that are not visible see
// everything visible.
package terms

// Candidate is one term of a record's item with the two verdicts on it.
type Candidate struct {
	Term        int32   // index into Names
	Name        string  // as it stands in a sentence: comedy, 1990s era, room
	Taste       float32 // shrunken mean residual of the user's ratings of items with the term, less the user's own level; NaN when there is none
	TasteWord   string  // dislikes, is not keen on, is indifferent to, likes, loves; "is new to" for none
	Opinion     float32 // shrunken mean residual of other users' ratings of this item (who mention the term, where terms come from reviews); NaN when there is none
	OpinionWord string  // is criticised, is found weak, is found fair, is praised, is widely loved; "is not yet rated" for none
}

// Words from the weakest to the strongest, cut at the quantiles .1 .3 .7 .9 of the training scores.
var (
	TasteWords   = [5]string{"dislikes", "is not keen on", "is indifferent to", "likes", "loves"}
	OpinionWords = [5]string{"is criticised", "is found weak", "is found fair", "is praised", "is widely loved"}
)

// Words for the absence of a verdict.
const (
	NewTaste   = "is new to"
	NewOpinion = "is not yet rated"
)
