package terms

import "strings"

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

// beforeNoun and afterNoun frame the places where nouns stand: "the breakfast was", "their pedals for".
var (
	beforeNoun = set(`a an the this that these those my your his her its our their no some any every each all of with for and great good
		nice excellent bad poor free small large big new old best better fine solid strong weak cheap`)
	afterNoun = set(`. is was are were has have had in on at of to for with from by as that which who when while if because than then
		will would can could`)
	// degree words stand before adjectives, hardly ever before nouns.
	degree = set(`very so too really extremely quite more most pretty incredibly super`)
)

// stopWords never become terms: function words, words of evaluation (they would name the outcome instead of a reason), and general
// nouns that say nothing of an item, the words for the item itself among them.
var stopWords = set(`
	able about above absolutely actual actually add added after again against ago ahead all allow almost along already also although always
	amazing amazon amount another answer any anyone anything anyway are area aren around arrive arrived ask asked aspect audience average away
	awesome awful back bad badly based basic beautiful because become been before beginning being believe below best better between big bit
	block book booked both bottom bought box brand bring brought built but buy call called came can cannot care case cause certain certainly
	chance change check choice choose cinema clear clearly close come company complete completely consider could couldn couple course critic
	customer date day days deal decent decided definitely despite detail device did didn differ difference different difficult disappointed
	disappointing does doesn doing don done down during each easily easy effect effort eight either else end enjoy enjoyed enough entertaining
	entertainment entire equipment especially etc even ever every everyone everything exactly example excellent expect expected experience
	extent extra extremely eye face fact fairly fall fan far favorite feature fee feel felt few fiction film filmmaker films final finally find
	fine first fit five follow follower following for found four free friend from full fully fun funny future game gave gear general generally
	genre get getting girl give given goes going gone good got great greatest group guess guest guy had half hand happen happy hard has hasn
	have haven having head hear heard heart help her here hers herself high highly him himself his hit hold holiday hollywood home hope horrible
	hotel hour how however huge hundred husband idea inside instead instrument internet into isn issue item its itself job just keep kept key
	kind knew know known lack large last late later least leave left less let life like liked likely line little live local long longer look
	looked looking lose lot lots love loved lovely low lower made main make making man many matter may maybe mean men mention middle might mind
	mine minute miss model moment money month more morning most mother mouth move movie movies movy much musical must myself name near nearly
	need needed needless negative never new next nice night nine nobody none nor not note nothing notice now number obviously off often ok okay
	old once one ones only onto open opinion option order original other others otherwise our out outside over overall own owner part particular
	past pay people per perfect perfectly perhaps person picture piece place plan play played please pleased plenty plus point poor positive
	possible present pretty previous probably problem product property provide purchase put question quick quickly quite range rather rating
	reach read ready real really reason reasonable recent recently recommend rest restaurant result return review right ring run said same saw
	say saying second see seem seemed seen self sense set seven several shall she shipping short should shouldn show side simple simply since
	sit site situation six size slightly small some someone something sometimes somewhat son soon sort standard star stars start started state
	stay stayed still stop stuff such suggest summer super sure surprise surprised take taken taking tale tell ten term terms terrible test than
	thank thanks that the their them themself themselves then there these they thing think third this those though thought three through time
	tip title today together told too took top total totally tour toward town tried trip true try trying turn turned two type under understand
	unit unless until upon use used useful user using usual usually vacation version very visit wait walk want wanted was wasn way web website
	week weekend well went were weren what whatever when where whether which while who whole whom whose why wife will winter wish with within
	without woman women won wonder wonderful word work worked world worry worse worst worth would wouldn write written wrong yeah year yes yet
	you your yours yourself`)
