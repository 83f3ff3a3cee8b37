package doctor

import (
	"maps"
	"testing"
)

func TestSample(t *testing.T) {
	for line, want := range map[string]struct {
		name   string
		labels map[string]string
		value  float64
		ok     bool
	}{
		`vllm:a 3`:                {"vllm:a", nil, 3, true},
		`vllm:a{} 1e1 1795388475`: {"vllm:a", map[string]string{}, 10, true},
		`vllm:a{x="1",y="b} \"c\", d",z="\\"} -2`: {"vllm:a", map[string]string{"x": "1", "y": `b} "c", d`, "z": `\`}, -2, true},
		`vllm:a{x="1"`:    {},
		`vllm:a{x=1} 2`:   {},
		`vllm:a{x="1} 2`:  {},
		`vllm:a{`:         {},
		`vllm:a `:         {},
		`vllm:a x`:        {},
		`vllm:a`:          {},
		"vllm:a{x=`1`} 2": {},
	} {
		name, labels, value, ok := sample(line)
		if ok != want.ok || ok && (name != want.name || value != want.value || !maps.Equal(labels, want.labels)) {
			t.Errorf("%s: %q %v %v %v", line, name, labels, value, ok)
		}
	}
}

func TestRecordedPage(t *testing.T) {
	p := parsePage([]byte(recordedMetrics(t)))
	if p.cache["enable_prefix_caching"] != "True" || p.cache["block_size"] != "128" || p.lora["max_lora"] != "4" || p.queries != 2573 || p.hits != 768 || !p.names["python_info"] {
		t.Errorf("%+v", p)
	}
	if p := parsePage([]byte("<html>\n{}")); len(p.names) != 0 {
		t.Errorf("a page of no metrics: %+v", p)
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte("# TYPE vllm:a gauge\nvllm:cache_config_info{a=\"b\\\"\",c=\"\"} 1.0\nvllm:prefix_cache_hits_total 3\n"))
	f.Add([]byte("vllm:lora_requests_info{max_lora=\"4\""))
	f.Add([]byte("vllm:prefix_cache_queries_total{engine=\"0\"} NaN\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		p := parsePage(page)
		if p.names == nil {
			t.Error("no names")
		}
	})
}
