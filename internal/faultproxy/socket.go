package faultproxy

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// Who shut the socket: each can open only what it shut itself.
const (
	byFault = 1 << iota
	byKill
	byClose
)

// socket is a listening port that can be shut and opened again. While it is shut the port stays bound without listening: connections
// are refused, and no other process, nor a client's own connection, can take the port meanwhile.
type socket struct {
	handler http.Handler
	stalled func() // a client began TLS
	addr    string
	port    int

	mu    sync.Mutex // guards what follows
	shutB int        // who shut it, 0 when open
	held  int        // file descriptor that keeps the port while shut, else 0
	srv   *http.Server
	l     net.Listener

	connMu sync.Mutex
	conns  map[*conn]struct{} // the open ones; nil while shut
}

func (s *socket) open() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr, s.port = l.Addr().String(), l.Addr().(*net.TCPAddr).Port
	s.serve(l)
	return nil
}

func (s *socket) serve(l net.Listener) {
	s.connMu.Lock()
	s.conns = map[*conn]struct{}{}
	s.connMu.Unlock()
	s.l = l
	s.srv = &http.Server{Handler: s.handler, ErrorLog: log.New(io.Discard, "", 0)}
	go func(srv *http.Server) { _ = srv.Serve(&listener{l.(*net.TCPListener), s}) }(s.srv) // it ends with an error when shut
}

// shut closes the listener and every connection.
func (s *socket) shut(by int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.shutB
	s.shutB |= by
	if was != 0 {
		return nil
	}
	_ = s.l.Close() // before the server does, which may not have taken it over yet
	s.connMu.Lock()
	open := s.conns
	s.conns = nil
	s.connMu.Unlock()
	_ = s.srv.Close()
	for c := range open {
		_ = c.TCPConn.Close() // the hijacked ones, which the server forgot
	}
	if by == byClose {
		return nil
	}
	var err error
	s.held, err = bind(s.port)
	return err
}

func (s *socket) reopen(by int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.shutB
	s.shutB &^= by
	if was == 0 || s.shutB != 0 {
		return nil
	}
	if err := syscall.Listen(s.held, 1024); err != nil {
		return os.NewSyscallError("listen", err)
	}
	f := os.NewFile(uintptr(s.held), "listener")
	s.held = 0
	defer f.Close()
	l, err := net.FileListener(f) // a copy of the descriptor
	if err != nil {
		return err
	}
	s.serve(l)
	return nil
}

func (s *socket) close() {
	_ = s.shut(byClose) // it can only fail to keep the port
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		_ = syscall.Close(s.held)
		s.held = 0
	}
}

func (s *socket) connections() int {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	return len(s.conns)
}

// bind takes a loopback port without listening on it.
func bind(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// listener hands out connections that the socket knows.
type listener struct {
	*net.TCPListener
	s *socket
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tcp, s: l.s}
	l.s.connMu.Lock()
	defer l.s.connMu.Unlock()
	if l.s.conns == nil {
		_ = tcp.Close()
		return c, nil
	}
	l.s.conns[c] = struct{}{}
	return c, nil
}

// conn is one connection. A client that begins with a TLS handshake is never answered.
type conn struct {
	*net.TCPConn
	s    *socket
	seen bool
}

// handshake is the first byte of a TLS record that begins a handshake.
const handshake = 0x16

// Read reads from the client.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if c.seen || n == 0 {
		return n, err
	}
	c.seen = true
	if b[0] != handshake {
		return n, err
	}
	c.s.stalled()
	for err == nil {
		_, err = c.TCPConn.Read(b)
	}
	return 0, err
}

// Close ends the connection.
func (c *conn) Close() error {
	c.s.connMu.Lock()
	delete(c.s.conns, c)
	c.s.connMu.Unlock()
	return c.TCPConn.Close()
}
