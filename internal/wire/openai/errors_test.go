package openai

import (
	"strings"
	"testing"

	"recpie/internal/fault"
)

func TestRecordedErrors(t *testing.T) {
	type want struct {
		class   fault.Class
		typ     string
		param   string
		message string
		hint    bool
		unknown bool
	}
	xs := recorded(t)
	for name, w := range map[string]want{
		"auth_001_auth_none.json":                            {fault.Fatal, "", "", "Unauthorized", true, false},
		"auth_016_completions_render.json":                   {fault.Fatal, TypePermissionDenied, "", "Scale-out endpoints are disabled", true, false},
		"llama2_004_lora2_load_toobig.json":                  {fault.Endpoint, TypeInternal, "", "Call to add_lora method failed", false, false},
		"llama_050_embeds_empty_prompt_string.json":          {fault.Item, TypeBadRequest, "", "The decoder prompt cannot be empty", false, false},
		"llama_099_err_chat_embeds_literal_placeholder.json": {fault.Item, TypeBadRequest, "messages", "Text content may not contain", false, false},
		"llama_106_err_lora_load_duplicate.json":             {fault.Item, TypeInvalidInput, "", "has already been loaded", false, false},
		"llama_138_err_lora_unload_again.json":               {fault.Item, TypeNotFound, "", "cannot be found", false, false},
		"llama_174_err_unknown_model.json":                   {fault.Item, TypeNotFound, "model", "does not exist", false, true},
		"llama_176_err_prompt_too_long_ids.json":             {fault.Item, TypeBadRequest, "input_tokens", "maximum context length", false, false},
		"llama_210_err_404_route.json":                       {fault.Fatal, "", "", "Not Found", true, false},
		"llama_211_err_405.json":                             {fault.Fatal, "", "", "Method Not Allowed", true, false},
		"off_001_off_embeds.json":                            {fault.Fatal, TypeBadRequest, "prompt_embeds", "--enable-prompt-embeds", true, false},
		"off_003_off_load_lora.json":                         {fault.Fatal, "", "", "Not Found", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			x, ok := xs[name]
			if !ok {
				t.Fatal("recording is missing")
			}
			e := ParseError(x.Response.Status, x.Response.JSON)
			if e.Class() != w.class || e.Type != w.typ || e.Param != w.param || !strings.Contains(e.Message, w.message) || (e.Hint() != "") != w.hint || e.UnknownModel() != w.unknown {
				t.Errorf("%v of %s: %+v, want %+v", e, e.Class(), e, w)
			}
		})
	}
}

func TestErrorForms(t *testing.T) {
	tests := []struct {
		status  int
		body    string
		class   fault.Class
		message string
	}{
		{429, `{"error":"Model is overloaded","error_type":"overloaded"}`, fault.Transient, "Model is overloaded"},
		{422, `{"detail":[{"loc":["body"],"msg":"bad"}]}`, fault.Item, `[{"loc":["body"],"msg":"bad"}]`},
		{503, `<html>busy</html>`, fault.Transient, "<html>busy</html>"},
		{408, ``, fault.Transient, "Request Timeout"},
		{502, "bad \xff gateway", fault.Endpoint, "bad \uFFFD gateway"},
		{500, `null`, fault.Endpoint, "Internal Server Error"},
		{400, `{"error":{"message":"m","param":["a"]}}`, fault.Item, "m"},
		{400, `{"error":{"message":5}}`, fault.Item, `{"message":5}`},
		{413, strings.Repeat("x", 10000), fault.Item, strings.Repeat("x", maxMessage) + "…"},
	}
	for _, tc := range tests {
		e := ParseError(tc.status, []byte(tc.body))
		if e.Class() != tc.class || e.Message != tc.message {
			t.Errorf("%d %.60s: class %v message %q, want %v %q", tc.status, tc.body, e.Class(), e.Message, tc.class, tc.message)
		}
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(400, []byte(`{"error":{"message":"m","type":"t","param":null,"code":400}}`))
	f.Add(401, []byte(`{"error":"Unauthorized"}`))
	f.Add(404, []byte(`{"detail":"Not Found"}`))
	f.Add(500, []byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if e := ParseError(status, body); len(e.Message) > maxMessage+len("…") {
			t.Fatalf("message of %d bytes", len(e.Message))
		}
	})
}
