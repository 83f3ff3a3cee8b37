package catalog

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"recpie/internal/dataset/formats"
)

func TestSetsAreWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range All() {
		page, err := url.Parse(s.Page)
		if err != nil || page.Scheme != "https" || page.Host == "" {
			t.Errorf("%s: page %q", s.Name, s.Page)
		}
		if seen[s.Name] || s.Title == "" || s.How == "" || s.Terms == "" || s.Size == "" {
			t.Errorf("%s is there twice or says too little", s.Name)
		}
		seen[s.Name] = true
		if s.Format != "" && (!strings.HasPrefix(s.Command, "recpie data import --format "+s.Format+" ") || len(s.Files) == 0 || !strings.Contains(s.Command, " --out ")) {
			t.Errorf("%s: command %q for files %q", s.Name, s.Command, s.Files)
		}
		if s.Format != "" {
			var files []string
			for _, word := range strings.Fields(s.Command)[5:] {
				if strings.HasPrefix(word, "--") {
					break
				}
				files = append(files, word)
			}
			if _, err := formats.Open(s.Format, files, formats.Options{}); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		var text strings.Builder
		if err := s.WriteText(&text); err != nil || !strings.HasSuffix(text.String(), "    "+s.Command+"\n") {
			t.Errorf("%s: %v, %s", s.Name, err, &text)
		}
		if found, err := Find(s.Name); err != nil || found.Page != s.Page {
			t.Errorf("%s is not found: %v", s.Name, err)
		}
	}
}

// Every format of a public set has an entry.
func TestFormatsHaveASet(t *testing.T) {
	for _, f := range formats.List() {
		general := f.Name == "csv" || f.Name == "jsonl" || f.Name == "parquet" || f.Name == "recbole"
		if !general && !slices.ContainsFunc(sets, func(s Set) bool { return s.Format == f.Name }) {
			t.Errorf("no set is of the form %s", f.Name)
		}
	}
}

func TestUnknownSet(t *testing.T) {
	if _, err := Find("netflix"); err == nil || !strings.Contains(err.Error(), `no set "netflix"`) {
		t.Errorf("error %v", err)
	}
}
