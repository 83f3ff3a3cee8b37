package loadgen

import (
	"math/rand/v2"
	"strings"
)

// Prompts makes synthetic prompts: plain words, of which the first ones are the same in all. Prompt i depends on the seed and i
// alone.
type Prompts struct {
	Words, Shared int // of all words of a prompt, those that all prompts begin with
	MaxTokens     int // of the answers
	Seed          uint64
}

// vocabulary holds common words, which most tokenizers know as one token each.
var vocabulary = strings.Fields(`about after again all also another any around ask back because been before began being best better
between big book both boy bring build call came can car change city close come could country cut day did different does done door
down each early earth easy eat end enough even every example eye face family far father feel few find first food for found four
friend from game gave get girl give good great group grow had hand hard has have head hear help here high home house how idea
important into just keep kind know land large last late learn leave left let letter life light like line list little live long look
made make man many may mean men might mile more morning most mother mountain move much music must name near need never new next
night not now number off often old once one only open order other our out over own page paper part people place plant play point
power present press problem put question quick rain read ready real red remember right river road rock room round run said same saw
school sea second see seem sentence set several she ship short should show side since sing small snow some song soon sound south
spell stand start state stay step still stop story street strong study such sun sure table take talk teach tell ten than that their
them then there these they thing think this those thought three through time together too took top town tree true try turn two under
until upon use very voice walk want warm was watch water way week well went were what wheel when where which while white who whole
why will wind with without wood word work world would write year yes young your`)

// Request returns request i.
func (p Prompts) Request(i int) Request {
	var b strings.Builder
	write := func(n int, stream uint64) {
		rng := rand.New(rand.NewPCG(p.Seed, stream))
		for range n {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
		}
	}
	shared := min(p.Shared, p.Words)
	write(shared, 0)
	write(p.Words-shared, uint64(i)+1)
	return Request{Index: i, Prompt: b.String(), MaxTokens: p.MaxTokens}
}
