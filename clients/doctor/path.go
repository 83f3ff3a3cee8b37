package doctor

// The paths on which what is learned reaches the inference servers, as policy.path of the settings names them.
const (
	pathAuto   = "auto"
	pathLoRA   = "lora"
	pathSoft   = "soft_prompt"
	pathMerged = "merged"
)

// path is the one that the server's adapters open.
func (i Inference) path() string {
	if i.Steps {
		return pathMerged
	}
	return pathLoRA
}

// tells marks the last finding as one that decides a path: it is open, or closed for a reason.
func (c *chart) tells(path, closed string) {
	if n := len(c.all); n > 0 {
		c.all[n-1].path, c.all[n-1].closed = path, closed
	}
}

// Paths says what the findings tell of each path by its name: "" for open, else why it is closed. A path that was not seen to the end, as
// when a server did not answer, is not there; soft_prompt is there only when something closes it.
func Paths(all []Finding) map[string]string {
	told := map[string]string{}
	for _, f := range all {
		if f.path == "" {
			continue
		}
		if was, seen := told[f.path]; !seen || was == "" {
			told[f.path] = ""
			if f.closed != "" {
				told[f.path] = f.Server + ": " + f.closed
			}
		}
	}
	return told
}
