package adapters

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"recpie/internal/fault"
)

// A server is taken only when it reads the version's files, and the same ones as the others; nothing is ever taken away from it.
func TestAssure(t *testing.T) {
	const base = "base-5"
	v := version(1, "aa", false)
	for name, c := range map[string]struct {
		spoil func(*server)
		zeroB bool
		want  fault.Class // of the second server's error; 0: none
		says  string
	}{
		"alike":           {spoil: func(*server) {}},
		"rounding":        {spoil: func(s *server) { s.value = func(string) float64 { return -.03 } }},
		"another":         {spoil: func(s *server) { s.value = func(string) float64 { return -.5 } }, want: fault.Endpoint, says: "something else"},
		"ignored":         {spoil: func(s *server) { s.value = func(string) float64 { return s.loaded[base] } }, want: fault.Endpoint, says: "base model"},
		"changes nothing": {spoil: func(s *server) { s.value = func(string) float64 { return s.loaded[base] } }, zeroB: true},
		"not finite":      {spoil: func(s *server) { s.value = func(string) float64 { return math.NaN() } }, want: fault.Endpoint, says: "not"},
		"refused":         {spoil: func(s *server) { s.fail["load"] = fault.Newf(fault.Item, "", "no such path") }, want: fault.Item, says: "no such path"},
		"silent":          {spoil: func(s *server) { s.fail["canary"] = fault.Newf(fault.Transient, "", "busy") }, want: fault.Transient, says: "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newServer(), newServer()
			for _, s := range []*server{first, second} {
				s.loaded[base] = -5. / 256
			}
			first.value = func(string) float64 { return -4. / 256 }
			second.value = first.value
			c.spoil(second)
			with := *v
			with.ZeroB = c.zeroB
			if c.zeroB {
				first.value = second.value
			}
			a := &Assurance{Version: &with, ServerDir: "/srv", Base: base}
			if err := a.Assure(t.Context(), "vllm", first); err != nil {
				t.Fatal(err)
			}
			err := a.Assure(t.Context(), "vllm", second)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || fault.ClassOf(err) != c.want || c.says != "not" && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%v)", err, fault.ClassOf(err))
			}
			for _, s := range []*server{first, second} {
				for _, l := range s.log {
					if l != "load /srv/"+v.Name {
						t.Errorf("it did %q", l)
					}
				}
			}
			// another process is told what the first has seen, and holds its own servers to it
			told := &Assurance{Version: &with, ServerDir: "/srv", Base: base}
			told.Expect(a.Canaries())
			if err := told.Assure(t.Context(), "vllm", first); err != nil {
				t.Error(err)
			}
			if again := told.Assure(t.Context(), "vllm", second); (again == nil) != (c.says == "") {
				t.Errorf("a process that was told: %v", again)
			}
			if err := told.Assure(t.Context(), "tgi", first); err != nil || len(told.Canaries()) != 2 || len(a.Canaries()) != 1 {
				t.Errorf("another kind has a canary of its own: %v, %v", told.Canaries(), err)
			}
		})
	}
}

func TestUsersAreFoundByTheirIDs(t *testing.T) {
	s := openStore(t)
	plain := softPrompt(t)
	if _, ok := plain.Find("anna"); ok {
		t.Error("a soft prompt without names finds a user")
	}
	soft, err := plain.Named([]string{"anna", "bert", "u\x00\n1"})
	if err != nil {
		t.Fatal(err)
	}
	v := write(t, s, 3, "", soft)
	if other := write(t, s, 3, "", plain); other.Name == v.Name {
		t.Error("names do not change the version")
	}
	back, err := v.SoftPrompt()
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int32{"anna": 0, "bert": 1, "u\x00\n1": 2, "carl": -1, "": -1} {
		row, ok := back.Find(id)
		if row != want || !ok {
			t.Errorf("%q: row %d, %v", id, row, ok)
		}
		a, errA := back.Rows(row)
		b, errB := plain.Rows(want)
		if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%q: %v %v", id, a, b)
		}
	}
	text, err := os.ReadFile(filepath.Join(v.Dir, SoftFile))
	if err != nil || strings.Contains(string(text), "anna") {
		t.Errorf("the file holds an id (%v)", err)
	}
	for _, ids := range [][]string{{"anna"}, {"anna", "bert", "anna"}} {
		if _, err := plain.Named(ids); fault.ClassOf(err) != fault.Fatal {
			t.Errorf("%q: %v", ids, err)
		}
	}
}

func TestImport(t *testing.T) {
	from, to := openStore(t), openStore(t)
	v := write(t, from, 7, writeLoRA(t, .5), softPrompt(t))
	for range 2 { // the second time it is there
		got, err := to.Import(v)
		if err != nil || !reflect.DeepEqual(got.Manifest, v.Manifest) || got.Dir == v.Dir {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	again, err := OpenVersion(filepath.Join(to.dir, v.Name))
	if err != nil || again.Name != v.Name {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(to.dir, v.Name, WeightsFile), []byte("spoilt"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Import(v); fault.ClassOf(err) != fault.Fatal {
		t.Errorf("a damaged version is taken: %v", err)
	}
	w := write(t, from, 8, writeLoRA(t, .25), nil)
	if err := os.WriteFile(filepath.Join(w.Dir, WeightsFile), []byte("spoilt"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Import(w); fault.ClassOf(err) != fault.Fatal {
		t.Errorf("a version that was damaged where it lay: %v", err)
	}
	if err := os.RemoveAll(w.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t).Import(w); err == nil {
		t.Error("a version that is gone was imported")
	}
}
