// Package fault gives every error of the house a class that policy can read: whether trying again may help, and who is to blame.
//
// The rule for HTTP: 4xx speaks of the item (it goes to the dead letter and never counts against the server), 408, 429 and 503 are
// transient, other 5xx, connection failures and garbage are the endpoint's, 401 and 403 are fatal.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Class says what kind of failure an error is. The zero value is Fatal: an unclassified error is never retried.
type Class int

// The classes, from the least to the most hopeful.
const (
	Fatal     Class = iota // stop: configuration, credentials, a bug, a full disk
	Item                   // this item cannot succeed: record the reason and go on
	Endpoint               // this server is at fault: another one may do it
	Transient              // the same call may succeed later
)

// String returns the class as it appears in metrics, dead letters and the documentation.
func (c Class) String() string {
	switch c {
	case Item:
		return "item"
	case Endpoint:
		return "endpoint"
	case Transient:
		return "transient"
	default:
		return "fatal"
	}
}

// Error is an error with a class. Hint tells a person what to do and is kept apart from the message.
type Error struct {
	Class      Class
	Op         string        // what was being done, as "vllm: load adapter"
	Hint       string        // the remedy, may be empty
	RetryAfter time.Duration // what the server asked for, 0 when it did not say
	Err        error
}

// Error returns "op: cause".
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Op
	case e.Op == "":
		return e.Err.Error()
	default:
		return e.Op + ": " + e.Err.Error()
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New wraps err with a class. It returns nil for a nil err.
func New(class Class, op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Op: op, Err: err}
}

// Newf makes an error of the class from a format; %w works as in fmt.Errorf.
func Newf(class Class, op, format string, args ...any) error {
	return &Error{Class: class, Op: op, Err: fmt.Errorf(format, args...)}
}

// WithHint adds the remedy that a person should read, keeping err's class. It returns nil for a nil err.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Class: ClassOf(err), Hint: hint, Err: err}
}

// ClassOf returns the class of the outermost classified error in err's chain, Fatal when there is none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Fatal
}

// RetryAfter returns how long the failing server asked to be left alone, 0 when it did not say.
func RetryAfter(err error) time.Duration {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.RetryAfter > 0 {
			return e.RetryAfter
		}
	}
	return 0
}

// HintOf returns the outermost hint in err's chain, "" when there is none.
func HintOf(err error) string {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}
