package fault

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestClassAndHintSurviveWrapping(t *testing.T) {
	base := errors.New("boom")
	err := fmt.Errorf("outer: %w", WithHint(&Error{Class: Transient, Op: "call", RetryAfter: 3 * time.Second, Err: base}, "wait"))
	if got := ClassOf(err); got != Transient {
		t.Errorf("ClassOf = %v, want transient", got)
	}
	if got := HintOf(err); got != "wait" {
		t.Errorf("HintOf = %q, want wait", got)
	}
	if got := RetryAfter(err); got != 3*time.Second {
		t.Errorf("RetryAfter = %v, want 3s", got)
	}
	if !errors.Is(err, base) {
		t.Error("the cause is lost")
	}
	if got := err.Error(); got != "outer: call: boom" {
		t.Errorf("message %q", got)
	}
}

func TestUnclassifiedIsFatalAndNilStaysNil(t *testing.T) {
	if ClassOf(errors.New("x")) != Fatal {
		t.Error("an unclassified error must be fatal")
	}
	if New(Item, "op", nil) != nil || WithHint(nil, "x") != nil {
		t.Error("wrapping nil must give nil")
	}
}
