package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"recpie/internal/fault"
	"recpie/internal/faultproxy/fakefleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chat = `{"model":"tiny","messages":[{"role":"user","content":"say it"}],"max_tokens":8,"temperature":1,"n":2,"logprobs":true,"return_token_ids":true}`

func start(t *testing.T) *Proxy {
	t.Helper()
	p, err := New(fakefleet.New(fakefleet.Config{}), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client makes a connection for every request, so that none is a retry of net/http's on a stale one.
func client(timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func post(t *testing.T, c *http.Client, url, body string) (int, []byte, error) {
	t.Helper()
	resp, err := c.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// wire sends a request by hand and returns what came back, byte for byte, until the server ended the connection or the time was up.
func wire(t *testing.T, p *Proxy, timeout time.Duration) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.URL(), "http://"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(timeout)))
	_, err = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(chat), chat)
	must(t, err)
	b, err := io.ReadAll(c)
	return string(b), err
}

func split(s string) (head, body string) {
	head, body, _ = strings.Cut(s, "\r\n\r\n")
	return head, body
}

// TestOnTheWire: what each fault of the connection really sends.
func TestOnTheWire(t *testing.T) {
	const long, short = 5 * time.Second, 250 * time.Millisecond
	clean := start(t)
	_, good, err := post(t, client(long), clean.URL(), chat)
	must(t, err)
	n := len(good)
	isReset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	timedOut := func(err error) bool { var e net.Error; return errors.As(err, &e) && e.Timeout() }
	ended := func(err error) bool { return err == nil }
	tests := []struct {
		f       Fault
		timeout time.Duration
		end     func(error) bool
		body    func(head, body string) bool
	}{
		{ResetBeforeHeaders(), long, isReset, func(h, b string) bool { return h == "" }},
		{ResetAfterHeaders(), long, isReset, func(h, b string) bool { return strings.Contains(h, "200 OK") && b == "" }},
		{ResetMidBody(), long, isReset, func(h, b string) bool { return b == string(good[:n/2]) }},
		{HalfBody(), long, ended, func(h, b string) bool {
			return strings.Contains(h, fmt.Sprint("Content-Length: ", n)) && b == string(good[:n/2])
		}},
		{LengthTooLong(), short, timedOut, func(h, b string) bool {
			return strings.Contains(h, fmt.Sprint("Content-Length: ", n+10)) && b == string(good)
		}},
		{LengthTooShort(), short, timedOut, func(h, b string) bool {
			return strings.Contains(h, fmt.Sprint("Content-Length: ", n/2)) && b == string(good)
		}},
		{ChunkCut(), long, ended, func(h, b string) bool {
			return strings.Contains(h, "chunked") && b == fmt.Sprintf("%x\r\n%s", n, good[:n/2])
		}},
		{ChunkedEndMissing(), long, ended, func(h, b string) bool { return b == fmt.Sprintf("%x\r\n%s\r\n", n, good) }},
		{SlowHeaders(50 * time.Millisecond), short, timedOut, func(h, b string) bool { return len(h) >= 2 && len(h) <= 8 }},
		{SlowBody(50 * time.Millisecond), short, timedOut, func(h, b string) bool { return len(b) >= 2 && len(b) <= 8 && string(good[:len(b)]) == b }},
		{Silent(), short, timedOut, func(h, b string) bool { return h == "" }},
		{SilentMidBody(), short, timedOut, func(h, b string) bool { return b == string(good[:n/2]) }},
		{Late(100 * time.Millisecond), short, timedOut, func(h, b string) bool { return b == string(good) }},
		{Late(time.Hour), short, timedOut, func(h, b string) bool { return h == "" }},
		{Twice(), short, timedOut, func(h, b string) bool {
			return strings.Count(b, string(good)) == 2 && strings.Count(b, "200 OK") == 1 && strings.HasPrefix(b, string(good))
		}},
		{HugeHeader(1 << 20), short, timedOut, func(h, b string) bool { return len(h) > 1<<20 && b == string(good) }},
	}
	for _, tc := range tests {
		t.Run(tc.f.Name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			must(t, p.Always(tc.f))
			text, err := wire(t, p, tc.timeout)
			if h, b := split(text); !tc.end(err) || !tc.body(h, b) {
				t.Errorf("%d bytes %.300q, then %v", len(text), text, err)
			}
			if p.Faults()[tc.f.Name] != 1 || p.Requests() != 1 {
				t.Errorf("counted %v of %d requests", p.Faults(), p.Requests())
			}
		})
	}
}

func TestRefusedAndBack(t *testing.T) {
	p := start(t)
	c := client(5 * time.Second)
	for range 20 {
		must(t, p.Always(Refused()))
		if _, _, err := post(t, c, p.URL(), chat); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("while refusing: %v", err)
		}
		must(t, p.Clean())
		if status, _, err := post(t, c, p.URL(), chat); status != 200 || err != nil {
			t.Fatalf("after it: %d, %v", status, err)
		}
	}
	must(t, p.Script(Refused()))
	if _, _, err := post(t, c, p.URL(), chat); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a single request: %v", err)
	}
}

func TestTLSStall(t *testing.T) {
	p := start(t)
	f := TLSStall()
	must(t, p.Always(f))
	if url := p.URLFor(f); !strings.HasPrefix(url, "https://") {
		t.Fatal(url)
	}
	c := client(0)
	c.Transport.(*http.Transport).TLSHandshakeTimeout = 100 * time.Millisecond
	if _, _, err := post(t, c, p.URLFor(f), chat); err == nil || !strings.Contains(err.Error(), "TLS handshake timeout") {
		t.Errorf("%v", err)
	}
	if p.Faults()[f.Name] != 1 {
		t.Errorf("counted %v", p.Faults())
	}
}

// TestAnswers: what each fault of the answer really says.
func TestAnswers(t *testing.T) {
	p := start(t)
	c := client(20 * time.Second)
	_, good, err := post(t, c, p.URL(), chat)
	must(t, err)
	type parsed struct {
		Model   string
		Choices []struct {
			Index    *int
			Message  struct{ Content *string }
			Finish   *string `json:"finish_reason"`
			Tokens   []int   `json:"token_ids"`
			Logprobs struct{ Content []json.RawMessage }
		}
	}
	read := func(b []byte) (m parsed) {
		if json.Unmarshal(b, &m) != nil {
			return parsed{Model: "unreadable"}
		}
		return m
	}
	was := read(good)
	tests := []struct {
		f  Fault
		ok func(b []byte, m parsed) bool
	}{
		{Garbage(), func(b []byte, m parsed) bool { return len(b) == len(good) && !json.Valid(b) }},
		{HTML(), func(b []byte, m parsed) bool { return bytes.HasPrefix(b, []byte("<!doctype html>")) }},
		{Truncated(), func(b []byte, m parsed) bool { return bytes.Equal(b, good[:len(good)/2]) }},
		{ByteOrderMark(), func(b []byte, m parsed) bool { return bytes.Equal(b, append([]byte{0xef, 0xbb, 0xbf}, good...)) }},
		{InvalidUTF8(), func(b []byte, m parsed) bool { return !utf8.Valid(b) && len(m.Choices) == 2 }},
		{DuplicateKeys(), func(b []byte, m parsed) bool {
			return bytes.Count(b, []byte(`"choices"`)) == 2 && *m.Choices[0].Message.Content == "another text"
		}},
		{Nested(100_000), func(b []byte, m parsed) bool { return bytes.Count(b, []byte("[")) == 100_000 }},
		{FewerChoices(), func(b []byte, m parsed) bool { return len(m.Choices) == 1 }},
		{MoreChoices(), func(b []byte, m parsed) bool { return len(m.Choices) == 3 && *m.Choices[2].Index == 2 }},
		{DuplicateIndex(), func(b []byte, m parsed) bool { return *m.Choices[0].Index == 0 && *m.Choices[1].Index == 0 }},
		{MissingIndex(), func(b []byte, m parsed) bool { return m.Choices[0].Index == nil && *m.Choices[1].Index == 1 }},
		{NullContent(), func(b []byte, m parsed) bool {
			return m.Choices[0].Message.Content != nil && m.Choices[1].Message.Content == nil
		}},
		{FinishMissing(), func(b []byte, m parsed) bool { return m.Choices[1].Finish == nil }},
		{FinishAbort(), func(b []byte, m parsed) bool { return *m.Choices[1].Finish == "abort" }},
		{LogprobsShort(), func(b []byte, m parsed) bool {
			return len(m.Choices[1].Logprobs.Content) == len(m.Choices[1].Tokens)-1 && len(was.Choices[1].Logprobs.Content) == len(was.Choices[1].Tokens)
		}},
		{OtherModel(), func(b []byte, m parsed) bool { return m.Model == "another-model" && was.Model == "tiny" }},
		{GzipBomb(64), func(b []byte, m parsed) bool { return len(b) == 64<<20 }}, // net/http inflates
		{HugeBody(64<<20, true), func(b []byte, m parsed) bool { return len(b) == 64<<20 }},
		{HugeBody(64<<20, false), func(b []byte, m parsed) bool { return len(b) == 64<<20 }},
	}
	for _, tc := range tests {
		must(t, p.Always(tc.f))
		status, b, err := post(t, c, p.URL(), chat)
		if status != 200 || err != nil || !tc.ok(b, read(b)) {
			t.Errorf("%s: %d, %d bytes %.300q, %v", tc.f.Name, status, len(b), b, err)
		}
	}
}

func TestStatuses(t *testing.T) {
	p := start(t)
	c := client(5 * time.Second)
	for _, code := range []int{429, 503, 500, 502, 504, 408, 400, 413, 422, 404, 401, 403} {
		must(t, p.Always(Status(code, "7")))
		resp, err := c.Post(p.URL()+"/v1/completions", "", strings.NewReader("{}"))
		must(t, err)
		var e struct{ Error struct{ Code int } }
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if resp.StatusCode != code || e.Error.Code != code || err != nil || resp.Header.Get("Retry-After") != "7" {
			t.Errorf("%d: %d, %+v, %v", code, resp.StatusCode, e, err)
		}
	}
}

func TestOtherRequest(t *testing.T) {
	p := start(t)
	must(t, p.Always(OtherRequest()))
	for id, want := range map[string]string{"a-7": "chatcmpl-a-0", "a-0": "chatcmpl-a-1"} {
		r, err := http.NewRequest("POST", p.URL()+"/v1/chat/completions", strings.NewReader(chat))
		must(t, err)
		r.Header.Set("X-Request-Id", id)
		resp, err := client(5 * time.Second).Do(r)
		must(t, err)
		var m struct{ ID string }
		err = json.NewDecoder(resp.Body).Decode(&m)
		resp.Body.Close()
		if m.ID != want || err != nil {
			t.Errorf("%s: %+v, %v", id, m, err)
		}
	}
}

// Redirects go on for ever, whatever is decided about the requests that follow them.
func TestRedirectsAreEndless(t *testing.T) {
	p := start(t)
	must(t, p.Script(Redirects()))
	hops := 0
	c := client(5 * time.Second)
	c.CheckRedirect = func(*http.Request, []*http.Request) error {
		if hops++; hops == 50 {
			return errors.New("enough")
		}
		return nil
	}
	if _, _, err := post(t, c, p.URL(), chat); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("after %d hops: %v", hops, err)
	}
}

// Rate is a function of the seed and the number of the request, keeps to its share, and leaves no request behind.
func TestRate(t *testing.T) {
	run := func(seed uint64) (string, int64) {
		p, err := New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), seed)
		must(t, err)
		defer p.Close()
		must(t, p.Rate(.2, Status(503, ""), Status(500, "")))
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		var log strings.Builder
		for i := range 500 {
			for try := 0; ; try++ {
				status, _, err := post(t, c, p.URL(), fmt.Sprint(i))
				must(t, err)
				fmt.Fprint(&log, " ", status)
				if status == 200 {
					break
				}
				if try == consecutive {
					t.Fatalf("request %d met %d faults in a row", i, try+1)
				}
			}
		}
		return log.String(), p.Requests()
	}
	one, sent := run(1)
	if again, _ := run(1); again != one {
		t.Error("the same seed broke other requests")
	}
	if other, _ := run(2); other == one {
		t.Error("another seed broke the same requests")
	}
	if faults := float64(sent-500) / float64(sent); faults < .15 || faults > .25 {
		t.Errorf("%.3f of the requests were spoiled, want 0.2", faults)
	}
	if !strings.Contains(one, "503") || !strings.Contains(one, " 500") {
		t.Error("one of the faults was never drawn")
	}
}

func TestScript(t *testing.T) {
	p := start(t)
	must(t, p.Script(Status(503, ""), Fault{}, Status(400, "")))
	c := client(5 * time.Second)
	var got []int
	for range 5 {
		status, _, err := post(t, c, p.URL(), chat)
		must(t, err)
		got = append(got, status)
	}
	if want := []int{503, 200, 400, 200, 200}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Kill ends what is under way, refuses what comes, and gives the port back.
func TestKillAndRevive(t *testing.T) {
	p := start(t)
	url := p.URL()
	p.Hang()
	failed := make(chan error)
	for range 8 {
		go func() { _, _, err := post(t, client(10*time.Second), url, chat); failed <- err }()
	}
	for p.Connections() < 8 || p.Requests() < 8 {
		time.Sleep(time.Millisecond)
	}
	must(t, p.Kill())
	for range 8 {
		if err := <-failed; err == nil {
			t.Error("a request survived its server")
		}
	}
	if p.Connections() != 0 {
		t.Errorf("%d connections of a dead server", p.Connections())
	}
	if _, _, err := post(t, client(time.Second), url, chat); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while dead: %v", err)
	}
	must(t, p.Kill())
	must(t, p.Revive())
	if status, _, err := post(t, client(5*time.Second), url, chat); status != 200 || err != nil || p.URL() != url {
		t.Errorf("after revival: %d, %v", status, err)
	}
}

func TestHangAndSlow(t *testing.T) {
	fake := fakefleet.New(fakefleet.Config{Service: 10 * time.Millisecond})
	p, err := New(fake, 1)
	must(t, err)
	defer p.Close()
	p.Hang()
	if _, _, err := post(t, client(50*time.Millisecond), p.URL(), chat); err == nil {
		t.Error("a hung server answered")
	}
	must(t, p.Revive())
	for _, tc := range []struct {
		factor      float64
		least, most time.Duration
	}{{1, 10 * time.Millisecond, 2 * time.Second}, {20, 200 * time.Millisecond, 5 * time.Second}} {
		p.Slow(tc.factor)
		begin := time.Now()
		_, _, err := post(t, client(10*time.Second), p.URL(), chat)
		if d := time.Since(begin); err != nil || d < tc.least || d > tc.most {
			t.Errorf("factor %v: %v, %v", tc.factor, d, err)
		}
	}
}

// What comes after a fault is the true answer: bytes as the backend writes them.
func TestTransparent(t *testing.T) {
	p := start(t)
	want := func() []byte {
		w := &answer{header: http.Header{}}
		r, err := http.NewRequest("POST", "/v1/chat/completions", strings.NewReader(chat))
		must(t, err)
		fakefleet.New(fakefleet.Config{}).ServeHTTP(w, r)
		return w.body.Bytes()
	}()
	for _, slow := range []float64{1, 1.5} {
		p.Slow(slow)
		if status, got, err := post(t, client(5*time.Second), p.URL(), chat); status != 200 || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d, %q, %v", status, got, err)
		}
	}
	must(t, p.Always(OtherModel()))
	resp, err := client(5 * time.Second).Get(p.URL() + "/v1/models")
	must(t, err)
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('}')
	if err != nil || !strings.Contains(line, `"id":"tiny"`) || p.Faults()["other model"] != 0 {
		t.Errorf("an answer without choices was spoiled: %s, %v", line, err)
	}
}

// Killing, reviving and re-planning under traffic neither deadlocks nor races nor leaks.
func TestUnderTraffic(t *testing.T) {
	p := start(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := client(100 * time.Millisecond)
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = post(t, c, p.URL(), chat) // any outcome is right
				}
			}
		})
	}
	faults := Passing()
	for i := range 60 {
		switch i % 6 {
		case 0:
			must(t, p.Rate(.5, faults...))
		case 1:
			must(t, p.Kill())
		case 2:
			must(t, p.Always(Refused()))
		case 3:
			p.Hang()
		case 4:
			must(t, p.Revive())
		case 5:
			must(t, p.Clean())
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	must(t, p.Clean())
	must(t, p.Revive())
	if status, _, err := post(t, client(5*time.Second), p.URL(), chat); status != 200 || err != nil {
		t.Errorf("at the end: %d, %v", status, err)
	}
}

// Every fault has a name of its own and a class that is not a success by accident.
func TestAll(t *testing.T) {
	names := map[string]bool{}
	for _, f := range All() {
		if f.Name == "" || names[f.Name] || f.do == nil {
			t.Errorf("%q is nameless, there twice or does nothing", f.Name)
		}
		names[f.Name] = true
	}
	for _, f := range Passing() {
		if f.Waits || f.Want == fault.Item || f.Want == fault.Fatal {
			t.Errorf("%s does not pass", f.Name)
		}
	}
	if len(names) < 50 || len(Passing()) < 25 {
		t.Errorf("%d faults, %d pass", len(names), len(Passing()))
	}
}
