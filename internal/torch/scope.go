package torch

/*
#cgo CXXFLAGS: -std=c++17
#cgo CFLAGS: -O3 -ffast-math -Wno-psabi
#include <stdlib.h>
#include "shim.h"

extern void at_manual_seed(int64_t);
extern void at_set_num_threads(int);
extern int at_get_num_threads(void);
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Scope is an arena of tensors with a sticky error. It is valid while the function it was given to runs, on that
// function's goroutine only.
type Scope struct {
	live   []*Tensor // nil where a tensor was kept
	floor  int       // where the innermost Sub begins
	err    error
	closed bool
	grad   bool
	dev    Device          // of new tensors
	out    *[2]lib.Ctensor // libtorch writes results here: an allocation of its own, without Go pointers
}

// Error is the failure of one operation.
type Error struct {
	Op       string // the operation, as "matmul"
	Operands string // its tensors, as "float32[2,3], float32[4,5]"
	Msg      string // libtorch's message, or ours
}

// Error returns "torch: matmul of float32[2,3], float32[4,5]: message".
func (e *Error) Error() string {
	if e.Operands == "" {
		return "torch: " + e.Op + ": " + e.Msg
	}
	return "torch: " + e.Op + " of " + e.Operands + ": " + e.Msg
}

// Do runs fn in a new scope with autograd on. It returns the scope's sticky error if there is one, else fn's.
// A panic in fn that follows a failed operation (such as an index into the shape of its nil result) is that failure;
// any other panic goes on. The tensors of the scope are freed in every case.
func Do(fn func(s *Scope) error) error { return run(true, CPU, fn) }

// NoGrad is Do with autograd off.
func NoGrad(fn func(s *Scope) error) error { return run(false, CPU, fn) }

func run(grad bool, dev Device, fn func(s *Scope) error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	C.recpie_thread_setup(C.int(wantThreads.Load()))
	before := setGradMode(grad)
	s := &Scope{out: new([2]lib.Ctensor), grad: grad, dev: dev}
	defer func() {
		r := recover()
		s.freeFrom(0)
		s.closed = true
		setGradMode(before)
		switch {
		case r != nil && s.err == nil:
			panic(r)
		case s.err != nil && !errors.Is(err, s.err):
			err = s.err
		}
	}()
	return fn(s)
}

func setGradMode(on bool) (before bool) {
	v := 0
	if on {
		v = 1
	}
	return int32(lib.AtGradSetEnabled(v)) == 1 // the upper half of the result is undefined
}

// NoGrad runs fn with autograd off, in the same arena.
func (s *Scope) NoGrad(fn func()) {
	before, was := setGradMode(false), s.grad
	s.grad = false
	defer func() { s.grad = was; setGradMode(before) }()
	fn()
}

// Sub runs fn in a nested arena: what fn makes is freed when it returns, unless kept or lifted. The scope passed to
// fn is s itself.
func (s *Scope) Sub(fn func(s *Scope)) {
	before := s.floor
	s.floor = len(s.live)
	defer func() {
		s.freeFrom(s.floor)
		s.floor = before
	}()
	fn(s)
}

// Lift moves a tensor made in the running Sub to the enclosing arena, so that it outlives the Sub. It returns t.
func (s *Scope) Lift(t *Tensor) *Tensor {
	if !s.ready("lift", t) {
		return nil
	}
	if t.slot >= s.floor && t.slot < len(s.live) && s.live[t.slot] == t {
		other := s.live[s.floor]
		s.live[s.floor], s.live[t.slot] = t, other
		if other != nil {
			other.slot = t.slot
		}
		t.slot = s.floor
		s.floor++
	}
	return t
}

// Keep takes t out of all arenas of the scope: its holder calls Free. It returns t.
func (s *Scope) Keep(t *Tensor) *Tensor {
	if !s.ready("keep", t) {
		return nil
	}
	if t.slot >= 0 && t.slot < len(s.live) && s.live[t.slot] == t {
		s.live[t.slot] = nil
		t.slot = -1
	}
	return t
}

// Err returns the sticky error, nil so far.
func (s *Scope) Err() error { return s.err }

// Fail makes err the sticky error unless there is one already.
func (s *Scope) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *Scope) freeFrom(i int) {
	for k := len(s.live) - 1; k >= i; k-- {
		if t := s.live[k]; t != nil {
			lib.AtFree(t.c)
			t.c = nil
			s.live[k] = nil
		}
	}
	s.live = s.live[:i]
}

// own enters a fresh C tensor into the arena.
func (s *Scope) own(c lib.Ctensor) *Tensor {
	t := &Tensor{c: c, slot: len(s.live)}
	s.live = append(s.live, t)
	return t
}

// ready reports whether an operation may run: no failure so far, and valid operands.
func (s *Scope) ready(op string, operands ...*Tensor) bool {
	if s.err != nil {
		return false
	}
	if s.closed {
		s.err = &Error{Op: op, Msg: "the scope has ended"}
		return false
	}
	for _, t := range operands {
		if !t.ok() {
			s.failOp(op, "an operand is nil or was freed", operands...)
			return false
		}
	}
	return true
}

func (s *Scope) failOp(op, msg string, operands ...*Tensor) {
	names := make([]string, len(operands))
	for i, t := range operands {
		names[i] = t.String()
	}
	s.Fail(&Error{Op: op, Operands: strings.Join(names, ", "), Msg: msg})
}

// run makes one tensor: f writes it through its argument, or leaves nil and libtorch's thread-local error.
func (s *Scope) run(op string, f func(out *lib.Ctensor), operands ...*Tensor) *Tensor {
	if !s.ready(op, operands...) {
		return nil
	}
	s.out[0] = nil
	f(&s.out[0])
	return s.take(op, s.out[0], operands...)
}

func (s *Scope) take(op string, c lib.Ctensor, operands ...*Tensor) *Tensor {
	if c == nil {
		s.failOp(op, lastError(), operands...)
		return nil
	}
	return s.own(c)
}

// call runs an operation without a result; done reports false when libtorch refused it.
func (s *Scope) call(op string, f func(), operands ...*Tensor) (done bool) {
	if !s.ready(op, operands...) {
		return false
	}
	f()
	if p := lib.GetAndResetLastErr(); p != nil {
		s.failOp(op, message(unsafe.Pointer(p)), operands...)
		return false
	}
	return true
}

// shim makes one tensor by a function of shim.cpp.
func (s *Scope) shim(op string, f func(err **C.char) unsafe.Pointer, operands ...*Tensor) *Tensor {
	if !s.ready(op, operands...) {
		return nil
	}
	var msg *C.char
	c := f(&msg)
	if msg != nil || c == nil {
		s.failOp(op, message(unsafe.Pointer(msg)), operands...)
		return nil
	}
	return s.own(lib.Ctensor(c))
}

func lastError() string { return message(unsafe.Pointer(lib.GetAndResetLastErr())) }

// message turns libtorch's error, a C string of ours to free, into its first part: what follows is a C++ backtrace.
func message(p unsafe.Pointer) string {
	if p == nil {
		return "libtorch failed without a message"
	}
	msg := C.GoString((*C.char)(p))
	C.free(p)
	if i := strings.Index(msg, "\nException raised from"); i >= 0 {
		msg = msg[:i]
	}
	return strings.TrimSpace(msg)
}

// Seed sets the seed of the default generator, which Randn, Rand, Dropout and Multinomial draw from. It is one
// generator for the process: only a program that draws from one goroutine gets the same numbers again.
func Seed(seed int64) { C.at_manual_seed(C.int64_t(seed)) }

var wantThreads atomic.Int32

// SetThreads sets the number of threads that one operation may use, in all scopes that begin from now on. Values
// below 1 are ignored. Very small operations are fastest with one.
func SetThreads(n int) {
	if n >= 1 {
		wantThreads.Store(int32(n))
	}
}

// Threads returns the number of threads that one operation may use.
func Threads() int {
	if n := wantThreads.Load(); n > 0 {
		return int(n)
	}
	return int(C.at_get_num_threads())
}

func shapeError(op string, format string, args ...any) error {
	return &Error{Op: op, Msg: fmt.Sprintf(format, args...)}
}
