// Package aspects reads out of reviews what people speak of and what they think of it.
//
// A review becomes quadruples (aspect, opinion, sentence, polarity −1 or +1), the form that the Sentires toolkit made common. No word list of
// others is used. The way is that of double propagation (Qiu et al., 2011), held to what a count can carry:
//
//  1. Every review is read once, by fixed rules: sentences, words, a guess at the part of speech by lists and endings, the scope of
//     negations, noun phrases, and the opinion words that stand in a known relation to one ("great sound", "the room was clean and
//     quiet", "love the tone", "problems with the jack").
//  2. An opinion word is one whose reviews are rated clearly above or below the mean, negated uses counted the other way round; some
//     hundred common ones are known beforehand and move with the data.
//  3. An aspect is a noun phrase that opinion words are said of often enough.
//
// Steps 2 and 3 are counts, kept by fold, so that they are made for every fold without its records at little cost. All that is said of an item
// to a record of the training part comes from the model without the record's fold: words, aspects and counts. A record's own quadruples are
// an outcome, as its review is; they too are made with the model without its fold, so that their polarity does not know its rating.
package aspects
