package doctor

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// page is what matters here of a Prometheus page of a vLLM server: its settings, which vLLM publishes as labels, and its counters.
type page struct {
	names map[string]bool // of all metrics, those without a sample too
	cache map[string]string
	lora  map[string]string
	// prompt tokens that the prefix cache was asked for and those it had, since the server started
	queries, hits float64
}

// parsePage reads the text format. What it cannot read it leaves out: a page that is none gives an empty one.
func parsePage(text []byte) page {
	p := page{names: map[string]bool{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			p.names[name] = true
			continue
		}
		if !strings.HasPrefix(line, "vllm:") {
			continue
		}
		name, labels, value, ok := sample(line)
		if !ok {
			continue
		}
		p.names[name] = true
		switch name {
		case "vllm:cache_config_info":
			p.cache = labels
		case "vllm:lora_requests_info":
			p.lora = labels
		case "vllm:prefix_cache_queries_total":
			p.queries += value
		case "vllm:prefix_cache_hits_total":
			p.hits += value
		}
	}
	return p
}

// sample reads a line of the form name{label="value",…} number. Values may hold escaped quotes.
func sample(line string) (name string, labels map[string]string, value float64, ok bool) {
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return "", nil, 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		rest = rest[1:]
		labels = map[string]string{}
		for !strings.HasPrefix(rest, "}") {
			key, after, found := strings.Cut(rest, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !found || err != nil || quoted[0] != '"' {
				return "", nil, 0, false
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return "", nil, 0, false
			}
			labels[key] = text
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "", nil, 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	return name, labels, value, err == nil
}
