package prompts_test

import (
	"fmt"

	"recpie/prompts"
)

// Parsing is lenient about wrapping and style, and says so.
func ExampleParse() {
	w, err := prompts.NewWording("watched this movie")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, answer := range []string{
		"The user watched this movie because the user loves comedy and the movie is praised for comedy.",
		"Answer: \"The consumer is looking for a quiet film and wants to laugh\"",
		"The user watched this movie because the",
	} {
		p, rejection := prompts.Parse(answer, w, prompts.Positive)
		if rejection != nil {
			fmt.Println("rejected:", rejection.Reason)
			continue
		}
		fmt.Println(p.Strict, p.Sentence)
	}
	// Output:
	// true The user watched this movie because the user loves comedy and the movie is praised for comedy.
	// false The consumer is looking for a quiet film and wants to laugh.
	// rejected: unfinished
}
