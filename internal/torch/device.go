package torch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"recpie/internal/fault"

	lib "github.com/sugarme/gotch/libtch"
)

// Device is where tensors live: CPU, or the number of a CUDA device. The values are libtch's own.
type Device int32

// CPU is the processor.
const CPU Device = -1

// ParseDevice reads "cpu" (also ""), "cuda" and "cuda:N".
func ParseDevice(name string) (Device, error) {
	number, cuda := strings.CutPrefix(name, "cuda")
	switch {
	case name == "" || name == "cpu":
		return CPU, nil
	case cuda && number == "":
		return 0, nil
	case cuda && strings.HasPrefix(number, ":"):
		if n, err := strconv.Atoi(number[1:]); err == nil && n >= 0 && n < 128 {
			return Device(n), nil
		}
	}
	return CPU, fault.New(fault.Fatal, "device", fmt.Errorf("%q is no device (cpu, cuda and cuda:N are)", name))
}

// String returns PyTorch's name of the device.
func (d Device) String() string {
	if d < 0 {
		return "cpu"
	}
	return "cuda:" + strconv.Itoa(int(d))
}

// Available returns an error where this libtorch or this machine does not have the device.
func (d Device) Available() error {
	if d < 0 {
		return nil
	}
	have := cudaDevices()
	if have > int(d) {
		return nil
	}
	err := errors.New("this libtorch has no CUDA, or the machine has no GPU")
	if have > 0 {
		err = fmt.Errorf("there are %d CUDA devices", have)
	}
	return fault.WithHint(fault.New(fault.Fatal, "device "+d.String(), err), "set LIBTORCH to a libtorch 2.1 with CUDA and build again, or choose the device cpu")
}

func cudaDevices() int {
	if n := lib.AtcCudaDeviceCount(); n > 0 && n < 1024 {
		return int(n)
	}
	return 0
}

// FreeMemory returns how many bytes the device has free, 0 where that cannot be found out. On the CPU a control group's limit counts.
func (d Device) FreeMemory() int64 {
	if d >= 0 {
		out, err := exec.Command("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id="+strconv.Itoa(int(d))).Output()
		if err != nil {
			return 0
		}
		mib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		if err != nil {
			return 0
		}
		return mib << 20
	}
	free := int64(0)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				free = kib << 10
			}
		}
	}
	limit, used := readNumber("/sys/fs/cgroup/memory.max"), readNumber("/sys/fs/cgroup/memory.current")
	if limit > 0 && (free == 0 || limit-used < free) {
		free = max(1, limit-used)
	}
	return free
}

func readNumber(path string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is none
	return n
}

// Do is the function Do with new tensors on the device.
func (d Device) Do(fn func(s *Scope) error) error { return run(true, d, fn) }

// NoGrad is the function NoGrad with new tensors on the device.
func (d Device) NoGrad(fn func(s *Scope) error) error { return run(false, d, fn) }
