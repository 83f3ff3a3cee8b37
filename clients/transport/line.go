package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxHead    = 64 << 10              // bytes of an answer's status line and headers
	readBuffer = 4 << 10               // of a connection
	refused    = 50 * time.Millisecond // for an answer that a server gave before it closed the connection to what we were writing
)

var errHead = errors.New("the answer's headers are larger than 64 KiB")

// line is one connection of direct, used by one request at a time.
type line struct {
	to    *direct
	conn  net.Conn
	raw   syscall.RawConn // nil: the connection is not one of the operating system's
	r     *bufio.Reader
	w     *bufio.Writer
	left  int64 // bytes that may still be read
	since time.Time

	cut  func()      // makes reading and writing fail at once
	stop func() bool // takes back that the end of the request's context does that; false: it has
}

func newLine(to *direct, conn net.Conn) *line {
	l := &line{to: to, conn: conn, w: bufio.NewWriterSize(conn, 16<<10), cut: func() { _ = conn.SetDeadline(time.Unix(1, 0)) }}
	l.r = bufio.NewReaderSize(l, readBuffer)
	if c, ok := conn.(syscall.Conn); ok {
		l.raw, _ = c.SyscallConn()
	}
	return l
}

// Read reads from the connection, within the limit on an answer's head.
func (l *line) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHead
	}
	n, err := l.conn.Read(p)
	l.left -= int64(n)
	return n, err
}

// quiet tells whether nothing has arrived since the last answer: neither the connection's end nor an answer that nobody asked for.
func (l *line) quiet() bool {
	if l.raw == nil {
		return true
	}
	quiet := false
	err := l.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// ask sends a request and reads the head of its answer, whose body then owns the connection. After an error the connection is closed;
// begun tells whether anything of an answer had arrived.
func (l *line) ask(req *http.Request) (resp *http.Response, begun bool, err error) {
	ctx := req.Context()
	l.stop = context.AfterFunc(ctx, l.cut)
	sent := req.Write(l.w)
	if sent == nil {
		sent = l.w.Flush()
	}
	if sent != nil {
		_ = l.conn.SetReadDeadline(time.Now().Add(refused))
	}
	resp, begun, err = l.head(req)
	if err != nil {
		if l.over(false); sent != nil {
			err = sent
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, begun, err
	}
	again := sent == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if resp.Body == http.NoBody {
		l.over(again)
		return resp, true, nil
	}
	resp.Body = &answer{ReadCloser: resp.Body, line: l, ctx: ctx, again: again}
	return resp, true, nil
}

// head reads an answer up to its body, past those that only announce it.
func (l *line) head(req *http.Request) (resp *http.Response, begun bool, err error) {
	l.left = maxHead + readBuffer // what is read ahead may be of the body
	if _, err := l.r.Peek(1); err != nil {
		return nil, false, err
	}
	for {
		resp, err = http.ReadResponse(l.r, req)
		if err != nil {
			return nil, true, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			l.left = math.MaxInt64
			return resp, true, nil
		}
	}
}

// over ends a request. The connection is kept when it can be used again and holds nothing that was not asked for.
func (l *line) over(again bool) {
	if l.stop() && again && l.r.Buffered() == 0 {
		l.to.put(l)
		return
	}
	_ = l.conn.Close()
}

// answer is the body of an answer.
type answer struct {
	io.ReadCloser // as ReadResponse made it
	line          *line
	ctx           context.Context
	again         bool // the connection can be used again
	ended         atomic.Bool
	err           error // with which reading ended
}

// Read reads from the body; its end frees the connection.
func (a *answer) Read(p []byte) (int, error) {
	if a.ended.Load() {
		if a.err != nil {
			return 0, a.err
		}
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF && a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	a.err = err
	if !a.ended.Swap(true) {
		a.line.over(a.again && err == io.EOF)
	}
	return n, err
}

// Close gives the rest of the answer up, and the connection with it when there is one.
func (a *answer) Close() error {
	if !a.ended.Swap(true) {
		a.line.over(false)
	}
	return nil
}
