package vllm

import (
	"net/http"
	"strings"
	"testing"
)

// Why adapters cannot be loaded is read out of the answer to loading one that is not there.
func TestRefusesAdapters(t *testing.T) {
	off := `{"error":{"message":"Call to add_lora method failed: Worker failed with error 'LoRA is not enabled. Use --enable-lora to enable LoRA.', please check the stack trace above for the root cause","type":"InternalServerError","param":null,"code":500}}`
	for name, tc := range map[string]struct {
		status int
		body   string
		why    string // "": it does not refuse
		fails  bool
	}{
		"not found, as it should be": {404, `{"error":{"message":"Loading lora recpie-probe failed: No adapter found for /does-not-exist","type":"NotFoundError","param":null,"code":404}}`, "", false},
		"a model without LoRA":       {500, off, "LoRA is off", false},
		"no route":                   {404, `{"detail":"Not Found"}`, "no route", false},
		"other method":               {405, `{"detail":"Method Not Allowed"}`, "no route", false},
		"not there":                  {501, `{"error":{"message":"no"}}`, "no route", false},
		"loaded, whatever it is":     {200, "Success: LoRA adapter 'recpie-probe' added successfully.", "", false},
		"left open":                  {400, `{"error":{"message":"bad path","type":"BadRequestError","param":null,"code":400}}`, "", false},
		"key":                        {401, `{"error":"Unauthorized"}`, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				paths = append(paths, r.URL.Path)
				if strings.Contains(r.URL.Path, "unload") {
					_, _ = w.Write([]byte("Success: LoRA adapter 'recpie-probe' removed successfully."))
					return
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			why, err := newClient(t, f.URL).RefusesAdapters(t.Context())
			if (err != nil) != tc.fails || (why == "") != (tc.why == "") || !strings.Contains(why, tc.why) {
				t.Errorf("%q, %v; want %q", why, err, tc.why)
			}
			if unloaded := paths[len(paths)-1] == "/v1/unload_lora_adapter"; unloaded != (tc.status == 200) {
				t.Errorf("it asked for %q", paths)
			}
		})
	}
}
