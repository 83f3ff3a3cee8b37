package aspects

import "strings"

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

// Seeds of the opinion lexicon: common words whose polarity hardly depends on what is spoken of.
var (
	seedGood = set(`good great excellent awesome amazing fantastic wonderful perfect superb outstanding lovely beautiful nice best better fine
		brilliant terrific impressive solid sturdy reliable comfortable clean friendly helpful pleasant enjoyable delightful delicious tasty
		convenient attractive charming fun funny fresh quiet spacious affordable favorite perfectly well beautifully nicely love loved loves
		like liked enjoy enjoyed recommend recommended pleased happy satisfied impressed glad worth easy`)
	seedBad = set(`bad poor terrible horrible awful worst worse disappointing disappointed mediocre useless cheap dirty filthy rude noisy broken
		defective flimsy unreliable uncomfortable annoying annoyed frustrating boring dull bland overpriced expensive slow weak worn ugly
		smelly unfriendly unhelpful poorly badly hate hated dislike disliked avoid regret unhappy dissatisfied waste wasted problem problems
		issue issues complaint complaints trouble lack lacks lacked lacking fail failed fails broke difficult`)
)

// Function words by what they do.
var (
	determiners = set(`a an the this that these those my your his her its our their some any every each all no another both either neither
		one two three four five six seven eight nine ten several many few own same other such`)
	subjects = set(`i we you he she they it who there`)
	objects  = set(`me us him them myself yourself himself herself itself ourselves themselves ones something anything everything
		nothing someone anyone everyone nobody none mine yours ours theirs what which whom whose`)
	prepositions = set(`in on at of for from by as into onto about over under between through during after before above below near off out up
		down without within along across behind beyond toward towards until till upon per via than since against around among
		with despite except inside outside besides plus like`)
	conjunctions = set(`and or but nor so yet if because while although though when where whether unless however therefore then that
		how why whatever whatsoever whenever wherever`)
	copulas = set(`is are was were be been being am isn't aren't wasn't weren't i'm it's he's she's that's there's they're we're you're seem
		seems seemed look looks looked feel feels felt sound sounds sounded smell smells smelled taste tastes tasted remain remains remained
		stay stays stayed became become becomes get gets got turned proved`)
	auxiliaries = set(`do does did done doing have has had having will would can could shall should may might must don't doesn't didn't haven't
		hasn't hadn't won't wouldn't can't cannot couldn't shouldn't mightn't mustn't i've we've they've you've i'd we'd you'd he'd she'd
		they'd i'll we'll you'll it'll they'll he'll she'll let's to ain't`)
	negators = set(`not no never without hardly barely scarcely neither nor nothing none nobody cannot isn't aren't wasn't weren't don't doesn't
		didn't haven't hasn't hadn't won't wouldn't can't couldn't shouldn't mightn't mustn't ain't lack lacks lacked lacking`)
	degrees = set(`very so too really extremely quite more most pretty incredibly super rather fairly somewhat absolutely totally completely
		truly highly amazingly surprisingly especially particularly exceptionally just much less least bit slightly little such always still
		also even only all`)
	adverbs = set(`not never ever often again already here there now then soon later today maybe perhaps almost enough away back together
		else instead anyway once twice far well yes no please etc sometimes usually probably actually finally definitely certainly simply
		basically obviously currently recently immediately quickly easily nearly exactly directly apart ago first second third last next overall
		sounding looking feeling tasting smelling unfortunately fortunately apparently clearly generally supposedly eventually honestly frankly`)
)

// verbs stand where nouns may stand too; they count as nouns only right behind a word that noun phrases begin with.
var verbs = set(`be buy bought buying use used using uses go went going gone goes come came coming comes make made making makes take took taken taking
	takes give gave given giving gives put puts putting keep kept keeping keeps let lets find found finding finds know knew known knowing
	knows think thought thinking thinks say said saying says tell told telling tells see saw seen seeing sees want wanted wants wanting
	need needed needs needing try tried trying tries ask asked asking asks work worked working works play played playing plays fit fits
	fitted fitting hold held holding holds turn turned turning turns tune tuned tunes tuning sound sounds sounded look looks looked looking
	feel feels felt feeling stay stayed staying stays start started starts starting stop stopped stopping stops run runs ran running walk
	walked walking walks eat ate eaten eating drink drank drinking sleep slept sleeping wait waited waiting leave left leaving arrive
	arrived arriving check checked checking book booked booking pay paid paying pays cost costs order ordered ordering return returned
	returning send sent sending ship shipped shipping receive received receiving got get gets getting happen happened add added adding
	adds change changed changing changes replace replaced replacing set sets setting plug plugged plugging plugs break breaks broke
	breaking believe expect expected expecting hope hoping hoped wish guess suppose mean means meant seem seems seemed become became bring
	brought bringing carry carried carrying carries cut cuts cutting call called calling calls move moved moving moves open opened opening
	opens close closed closing drop dropped dropping pull pulled push pushed hear heard hearing hears watch watched watching read reading
	write wrote writing written help helped helping helps show showed shown showing shows end ended ending ends spend spent spending
	travel travelled traveled traveling visit visited visiting live lived living allow allows allowed allowing require requires required
	include includes included including provide provides provided providing offer offers offered offering consider considering considered
	decide decided deciding figure figured remember remind realize realized notice noticed compare compared comparing test tested testing
	record recorded connect connected connecting attach attached attaching adjust adjusted adjusting hang hung hanging mount mounted
	fall falls fell falling stand stands stood standing sit sits sat sitting rest rests rested last lasts lasted lasting save saved
	saves saving purchase purchased purchasing install installed installing build built review reviewed reviewing rate rated charge
	charged share shared enter entered lock locked made compared built used found follow followed suggest suggested prefer preferred understand deal dealt meet met
	love loved loves like liked likes enjoy enjoyed enjoys hate hated hates dislike disliked recommend recommended recommends avoid regret
	lack lacks lacked fail failed fails`)

// plain are common adjectives, beside the seeds and what endings tell.
var plain = set(`able big small large little long short high low new old young hot cold warm cool dark bright light heavy soft hard thick thin wide
	narrow deep shallow loud clear sharp smooth rough tight loose firm stiff flat full empty rich fast quick simple complex modern basic
	standard regular normal different similar various main real true false right wrong free extra huge
	tiny massive decent ok okay average adequate sufficient cute sweet salty spicy sour bitter crisp warm cozy cosy quaint stylish elegant
	fancy luxurious central close near safe dangerous crowded busy calm lively dated tired shabby modest pricey inexpensive durable strong
	versatile accurate sensitive stable compact portable lightweight handy useful natural bright mellow muddy harsh crisp clunky stuck
	ready sure available possible certain whole entire single double black white red blue green yellow brown silver wooden plastic
	metal electric acoustic digital unique special typical particular important interesting predictable original memorable forgettable
	stupid silly clever smart witty moving touching scary violent gorgeous stunning cramped stale damp moldy musty stained rusty bent
	ripped torn loose crooked faulty missing late early polite courteous attentive welcoming kind efficient professional prompt`)

// general are nouns that name no aspect of anything.
var general = set(`thing things lot lots bit way ways time times day days week weeks month months year years hour hours minute minutes second
	people person man woman guy guys girl men women kid kids child children friend friends husband wife son daughter family everyone anyone someone
	reason reasons case kind sort type part point fact idea example problem problems issue issues trouble complaint complaints thought
	thoughts word words number matter course end side rest half couple pair number set piece place stuff something anything everything
	nothing one ones other others star stars review reviews reviewer reviewers amazon tripadvisor today tomorrow yesterday morning night
	afternoon evening weekend moment life world home hand hands eye eyes mind head job chance change choice question answer experience
	purchase purchases owner user users customer customers buyer hope luck doubt wish mistake deal waste lack plenty ton tons bunch most
	more less least much many few thank thanks please hi hello yes no ok okay dollar dollars buck bucks cent cents inch inches foot feet mile
	miles percent january february march april may june july august september october november december monday tuesday wednesday thursday
	friday saturday sunday christmas summer winter spring fall line bottom`)

// neutral adjectives say nothing for or against, whatever the ratings of their reviews.
var neutral = set(`different similar various main whole entire single double available possible certain early late young black white red blue green
	yellow brown silver wooden plastic metal electric acoustic digital typical particular original complete central`)

// senses are verbs that name an aspect themselves when an opinion follows: "it sounds great" speaks of the sound.
var senses = map[string]string{
	"sound": "sound", "sounds": "sound", "sounded": "sound", "look": "look", "looks": "look", "looked": "look", "feel": "feel", "feels": "feel", "felt": "feel",
	"smell": "smell", "smells": "smell", "smelled": "smell", "taste": "taste", "tastes": "taste", "tasted": "taste", "fit": "fit", "fits": "fit", "fitted": "fit",
}

// sensing words name an aspect when an opinion stands before: "a great sounding guitar".
var sensing = map[string]string{"sounding": "sound", "looking": "look", "feeling": "feel", "tasting": "taste", "smelling": "smell"}

// governors take what they judge as an object, right behind them or behind a preposition: "love the tone", "problems with the jack".
var governors = set(`love loved loves like liked likes enjoy enjoyed enjoys hate hated hates dislike disliked recommend recommended avoid regret lack lacks
	lacked lacking problem problems issue issues complaint complaints trouble pleased happy satisfied impressed disappointed annoyed
	dissatisfied unhappy worth waste wasted`)

// Endings that adjectives and adverbs have, and nouns that end alike.
var (
	adjectiveEndings = []string{"able", "ible", "ful", "less", "ous", "ish", "ive", "some"}
	notAdjectives    = set(`table cable vegetable stable handful spoonful bus house mouse blouse spouse dish fish finish drive five archive olive
		detective native motive objective adhesive relative narrative perspective initiative variable timetable bible crucible turntable
		handsome income outcome`)
	notAdverbs = set(`family supply reply assembly belly jelly ally bully fly italy july lily butterfly monopoly anomaly friendly lovely ugly silly
		lonely costly early daily likely deadly lively elderly timely smelly`)
)
