package prompts

import "testing"

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, rej := Parse(good, movieWords, Positive); rej != nil {
			b.Fatal(rej)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	f := movies(b)
	r := f.renderer(b, DefaultSettings())
	for i := 0; b.Loop(); i++ {
		if _, err := r.Render(f.split.Test[i%len(f.split.Test)], Positive); err != nil {
			b.Fatal(err)
		}
	}
}
