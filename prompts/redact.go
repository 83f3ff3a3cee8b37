package prompts

import (
	"regexp"
	"strings"
	"unicode"

	"recpie/internal/dataset/terms"
)

// Redaction keeps out of prompts what people wrote in reviews, and what reaches a person. With Settings.Redact there are
//
//   - no terms that were mined from reviews (terms of item metadata stay, with the user's own taste in them),
//   - no opinions of others,
//   - no e-mail addresses, web addresses, telephone numbers, handles and ids of users in the texts of items.
//
// What stays are the inputs of the items, and the ratings of the user's history. Nothing else of an outcome is read, so that no sentence
// of a review can reach a prompt. Whether the texts of items were written by people who wish to be named there, nobody can tell here.

// removed stands where something was taken out.
const removed = "(removed)"

// reaching matches addresses and numbers by which a person or an account is reached.
var reaching = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\b[\pL\pN._%+-]+\s?(?:@|\(at\))\s?[\pL\pN-]+(?:\.[\pL\pN-]+)+`, // e-mail
	`\b(?:https?:|ftp:|mailto:|tel:|www\.)\S+`,
	`\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|biz|io|eu|uk|de|fr)(?:/\S*|\b)`, // a host without its scheme
	`(?:^|[^\pL\pN])@[\pL\pN_.]{2,}`,                                                            // handle
	`\+\d[\d ().-]{5,}\d`,                                                                       // telephone: international,
	`\(?\b\d{2,5}\)?[ .-]{1,2}\d{2,4}(?:[ .-]\d{2,4})+\b`,                                       // in three groups or more,
	`\b\d{3}[.-]\d{4}\b`,                                                                        // local,
	`\b\d{9,}\b`,                                                                                // or written as one number, as ids are
}, "|"))

// redactor takes out of texts what reaches a person; ids are those of users that cannot be ordinary words.
type redactor struct{ ids map[string]bool }

func newRedactor(users []string) *redactor {
	r := &redactor{map[string]bool{}}
	for _, id := range users {
		if telling(id) {
			r.ids[id] = true
		}
	}
	return r
}

// telling says whether an id, found as a word in a text, is the id and not a word or a number of the text.
func telling(id string) bool {
	letters, digits, others := 0, 0, 0
	for _, c := range id {
		switch {
		case unicode.IsLetter(c):
			letters++
		case unicode.IsDigit(c):
			digits++
		default:
			others++
		}
	}
	n := letters + digits + others
	return n >= 5 && (letters > 0 && digits > 0 || letters > 0 && others > 0) || digits == n && n >= 6 || n >= 10 && id == strings.ToUpper(id)
}

// redact expects tidy text and returns the same.
func (r *redactor) redact(s string) string {
	s = reaching.ReplaceAllString(s, " "+removed+" ")
	words := strings.Fields(s)
	for i, w := range words {
		if r.ids[w] || r.ids[strings.TrimFunc(w, func(c rune) bool { return unicode.IsPunct(c) && c != '_' && c != '-' })] {
			words[i] = removed
		}
	}
	return strings.Join(words, " ")
}

// clean is clean for texts of items, and with Settings.Redact leaves nothing in them that reaches a person.
func (r *Renderer) clean(s string, limit int) string {
	if r.redactor == nil {
		return clean(s, limit)
	}
	return cut(r.redactor.redact(tidy(s, limit)), limit)
}

// fromReviews tells whether terms were mined from reviews.
func fromReviews(t Terms) bool {
	s, ok := t.(interface{ Source() terms.Source })
	return ok && s.Source().FromReviews()
}
