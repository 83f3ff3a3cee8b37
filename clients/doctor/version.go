package doctor

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// release is a version as Python packages number them, in an order that can be compared.
type release struct {
	numbers [4]int
	stage   int // dev, alpha, beta, candidate, final, post
	serial  int
}

var (
	versionForm = regexp.MustCompile(`^v?(\d+(?:\.\d+){0,3})(?:[._-]?(dev|alpha|a|beta|b|rc|c|post)[._-]?(\d*))?`)
	stages      = map[string]int{"dev": -4, "alpha": -3, "a": -3, "beta": -2, "b": -2, "rc": -1, "c": -1, "": 0, "post": 1}
)

// parseRelease reads a version. What follows its number and stage, as the build after a "+", does not order releases.
func parseRelease(s string) (release, bool) {
	m := versionForm.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if m == nil {
		return release{}, false
	}
	var r release
	for i, part := range strings.Split(m[1], ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return release{}, false // too large for any release
		}
		r.numbers[i] = n
	}
	r.stage = stages[m[2]]
	if m[3] != "" {
		n, err := strconv.Atoi(m[3])
		if err != nil {
			return release{}, false
		}
		r.serial = n
	}
	return r, true
}

func (r release) compare(o release) int {
	for i := range r.numbers {
		if c := cmp.Compare(r.numbers[i], o.numbers[i]); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(r.stage, o.stage), cmp.Compare(r.serial, o.serial))
}

// hole is a known fault of vLLM's prompt_embeds: all releases from one on and before the one that closes it.
type hole struct {
	from, fixed string
	grave       bool // it reaches memory: not to be used with soft prompts
	unasked     bool // it is open without --enable-prompt-embeds
	what        string
}

// holes are those published up to November 2026. CVE-2025-62164 was closed in 0.11.1 by making prompt_embeds a switch that is off;
// with the switch on its cause stayed until 0.13.0, where it has the number CVE-2026-56340. The bound on sparse tensors (vLLM pull
// request 54632, no number) was read in the source of 0.32.0; the release that brought it is not known here.
var holes = []hole{
	{"0.10.2", "0.11.1", true, true, "CVE-2025-62164 (a crafted soft prompt writes outside its memory)"},
	{"0.11.1", "0.13.0", true, false, "CVE-2026-56340 (a crafted soft prompt writes outside its memory)"},
	{"0.20.2rc0", "0.26.0", true, false, "CVE-2026-73557 (soft prompts at the same time get past the check of CVE-2025-62164)"},
	{"0.12.0", "0.24.0", false, false, "PYSEC-2026-2303 (a soft prompt alone ends a server whose model uses M-RoPE)"},
	{"0.10.2", "0.32.0", false, false, "unbounded memory for sparse soft prompts (vLLM pull request 54632)"},
}

// known returns the holes of a release and the first release without any of them.
func (r release) known() (open []hole, fixed string) {
	var last release
	for _, h := range holes {
		from, _ := parseRelease(h.from) // the table is tested
		to, _ := parseRelease(h.fixed)
		if r.compare(from) < 0 || r.compare(to) >= 0 {
			continue
		}
		open = append(open, h)
		if to.compare(last) > 0 {
			last, fixed = to, h.fixed
		}
	}
	return open, fixed
}

// version judges the release that a vLLM server says it is. soft tells whether soft prompts are in use: then releases with a hole
// that reaches memory are refused, since whoever else can send to the server can use it.
func (c *chart) version(text string, soft bool) {
	const what = "version"
	r, ok := parseRelease(text)
	if !ok {
		c.warn(what, "serve a released vLLM", "%q is no release that could be compared with the known holes of prompt_embeds", text)
		return
	}
	open, fixed := r.known()
	level := OK
	var names []string
	for _, h := range open {
		if !soft && !h.unasked {
			continue // the switch is off, or should be; see soft prompts
		}
		names = append(names, h.what)
		if h.grave && soft {
			level = Miss
		} else if level == OK {
			level = Warn
		}
	}
	if level == OK {
		c.ok(what, "vLLM %s", text)
		return
	}
	remedy := "upgrade vLLM to " + fixed + " or newer"
	if level == Miss {
		remedy += "; until then set inference.soft_prompts: false and start it without --enable-prompt-embeds"
	} else {
		remedy += ", or let only trusted hosts reach it"
	}
	c.note(level, what, remedy, "vLLM "+text+": "+strings.Join(names, ", "))
}
