package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// words is how many words make a prompt of half the longest length, as the server's tokenizer counts: sampled is what it made of
// sampleText, template included, 0 when that is unknown.
func (i Inference) words(sampled int) int {
	perWord := 4.
	if sampled > 0 {
		perWord = float64(sampled) / sampleWords
	}
	return max(4, int(float64(i.PromptTokens)/2/perWord))
}

// fit shortens what the examination itself asks for to what the server takes, 0: unknown. That the settings ask for more has been said.
func (i *Inference) fit(longest int) {
	if longest > 0 && i.PromptTokens+i.AnswerTokens > longest {
		i.AnswerTokens = max(1, min(i.AnswerTokens, longest/4))
		i.PromptTokens = max(1, longest-i.AnswerTokens)
	}
}

// vocabulary makes prompts that differ from their first word on when their numbers differ, so that no prefix is shared by chance.
var vocabulary = strings.Fields("a quiet film about two friends who cross the sea in winter and find what they had lost long ago at home " +
	"with music that stays and a slow ending one user liked its pictures another its voices")

func prompt(number, words int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", number)
	for w := 1; w < words; w++ {
		b.WriteByte(' ')
		b.WriteString(vocabulary[(w*(1+number%7)+number)%len(vocabulary)])
	}
	return b.String()
}

// generator asks a server for one greedy answer of at most so many tokens.
type generator func(ctx context.Context, text string, tokens int) (string, error)

// canaryTokens bounds the canary's answers: long enough to show a difference.
const canaryTokens = 24

// canary generates the same greedy answer twice. It tells whether anything came back.
func (c *chart) canary(ctx context.Context, i Inference, generate generator, words int) bool {
	const what = "canary"
	var texts [2]string
	var took [2]time.Duration
	for n := range texts {
		began := time.Now()
		text, err := generate(ctx, prompt(0, words), min(canaryTokens, i.AnswerTokens))
		if err != nil {
			c.failed(Miss, what, "ask the server by hand for a chat completion, and look at its log", err)
			return false
		}
		texts[n], took[n] = text, time.Since(began)
	}
	switch {
	case texts[0] != texts[1]:
		c.warn(what, "expected on a busy GPU, whose sums depend on the batch: a row's text is then not the same on every run (VLLM_BATCH_INVARIANT=1 where that matters)",
			"the same greedy request gave %q, then %q", head(texts[0]), head(texts[1]))
	case strings.TrimSpace(texts[0]) == "":
		c.warn(what, "see that the model is a chat model and its template the right one", "the answer is empty")
	case max(took[0], took[1]) > i.Timeout/2:
		c.warn(what, "raise inference.timeout, or give the server less work", "an answer took %s, inference.timeout is %s", short(max(took[0], took[1])), i.Timeout)
	default:
		c.ok(what, "twice the same greedy answer, in %s and %s", short(took[0]), short(took[1]))
	}
	return true
}

func head(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// prefixCache says whether prompts that begin alike are computed once: by the server's own word or, where it gives none, by its
// counters before and after the canary's equal prompts.
func (c *chart) prefixCache(ctx context.Context, l *link, before page, seen, answered bool) {
	const (
		what   = "prefix cache"
		remedy = "start vLLM without --no-enable-prefix-caching: prompts of one user share most of their text"
	)
	after, ok := metricsOf(ctx, l)
	switch on := before.cache["enable_prefix_caching"]; {
	case on == "True":
		c.ok(what, "on, in blocks of %s tokens%s", before.cache["block_size"], share(after))
	case on == "False":
		c.warn(what, remedy, "off")
	case !seen || !ok || !after.names["vllm:prefix_cache_queries_total"]:
		c.warn(what, "let doctor reach /metrics of the server to see it", "unknown: the server shows no metrics of it")
	case !answered || after.queries == before.queries:
		c.warn(what, remedy, "not used: its counters stand still")
	case after.hits > before.hits:
		c.ok(what, "on: an equal prompt was found%s", share(after))
	default:
		c.warn(what, remedy, "an equal prompt was not found")
	}
}

// share says how much of all prompts was found since the server started.
func share(p page) string {
	if p.queries <= 0 {
		return ""
	}
	return fmt.Sprintf("; of all prompt tokens since it started, %.0f%% were found there", 100*p.hits/p.queries)
}
