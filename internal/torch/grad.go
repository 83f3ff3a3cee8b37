package torch

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// resetGrad drops t's gradient.
func resetGrad(t *Tensor) error {
	if !t.ok() {
		return &Error{Op: "zero_grad", Operands: t.String(), Msg: "the tensor is nil or was freed"}
	}
	var msg *C.char
	C.recpie_reset_grad(unsafe.Pointer(t.c), &msg)
	if msg != nil {
		return &Error{Op: "zero_grad", Operands: t.String(), Msg: message(unsafe.Pointer(msg))}
	}
	return nil
}

// gradView returns t's gradient without copying, nil when there is none. It is valid until the next change of it.
func gradView(t *Tensor) ([]float32, error) {
	if !t.ok() {
		return nil, &Error{Op: "grad", Operands: t.String(), Msg: "the tensor is nil or was freed"}
	}
	var msg *C.char
	var n C.int64_t
	p := C.recpie_grad(unsafe.Pointer(t.c), &n, &msg)
	if msg != nil {
		return nil, &Error{Op: "grad", Operands: t.String(), Msg: message(unsafe.Pointer(msg))}
	}
	if p == nil {
		return nil, nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(p)), int(n)), nil
}
