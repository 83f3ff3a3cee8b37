package encoder

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapped is a file in memory. The mapping may reach beyond the file's end, where it must not be touched: a file that grows into it need not be
// mapped again.
type mapped struct {
	file *os.File
	data []byte
}

// cover maps the first size bytes at least.
func (m *mapped) cover(size int64, protection int) error {
	if size <= int64(len(m.data)) {
		return nil
	}
	if err := m.release(); err != nil {
		return err
	}
	data, err := unix.Mmap(int(m.file.Fd()), 0, int(size), protection, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", m.file.Name(), err)
	}
	m.data = data
	return nil
}

func (m *mapped) release() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}

// guarded runs fn, which touches mapped memory. Should someone else have cut the file, the system stops such a touch: that becomes an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a mapped file was cut or is damaged: %v", r)
		}
	}()
	return fn()
}
