package catalog

import (
	"net/url"
	"strings"
	"testing"
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
		var text strings.Builder
		if err := s.WriteText(&text); err != nil || !strings.HasSuffix(text.String(), "    "+s.Command+"\n") {
			t.Errorf("%s: %v, %s", s.Name, err, &text)
		}
		if found, err := Find(s.Name); err != nil || found.Page != s.Page {
			t.Errorf("%s is not found: %v", s.Name, err)
		}
	}
}

func TestUnknownSet(t *testing.T) {
	if _, err := Find("netflix"); err == nil || !strings.Contains(err.Error(), `no set "netflix"`) {
		t.Errorf("error %v", err)
	}
}
