package pgctl

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchdogFile is an open watchdog, with the calls of linux/watchdog.h. Opening it starts its countdown; each write starts
// the countdown anew. Source: Documentation/watchdog/watchdog-api.rst, drivers/watchdog/watchdog_dev.c, Linux 6.
type watchdogFile interface {
	Write(b []byte) (int, error)
	// Ioctl carries out request with value, and puts its result there.
	Ioctl(request uint, value *int32) error
	Close() error
}

// watchdogDriver is where devices come from: the kernel, or a test's fake.
type watchdogDriver interface {
	// usable says, without opening it, why a device cannot be opened; nil: nothing is known against it.
	usable(path string) error
	open(path string) (watchdogFile, error)
}

// errEndless says that a driver cannot stop its watchdog any more (nowayout).
var errEndless = errors.New("the driver cannot stop it (nowayout)")

// What is written to the device: anything feeds it; magicClose also lets the close that follows stop it.
const (
	feedByte   = "k"
	magicClose = "V"
)

// watchdog is an open device. One call at a time: its driver may take as long as it likes.
type watchdog struct {
	file    watchdogFile
	path    string
	timeout time.Duration // as the driver has it; 0: not known; guarded by guardServer.mu
}

// openWatchdog opens the device: from here on the machine is reset unless it is fed or disarmed.
func openWatchdog(d watchdogDriver, path string) (*watchdog, error) {
	f, err := d.open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &watchdog{file: f, path: path}, nil
}

// setTimeout asks for want, in whole seconds, and gives what the driver made of it. Not every driver can set it.
func (w *watchdog) setTimeout(want time.Duration) (time.Duration, error) {
	seconds := int32(want / time.Second)
	if err := w.file.Ioctl(unix.WDIOC_SETTIMEOUT, &seconds); err != nil && !unsettable(err) {
		return 0, fmt.Errorf("%s: set a timeout of %v: %w", w.path, want, err)
	}
	if err := w.file.Ioctl(unix.WDIOC_GETTIMEOUT, &seconds); err != nil {
		return 0, fmt.Errorf("%s: no watchdog, or its timeout cannot be read: %w", w.path, err)
	}
	return time.Duration(seconds) * time.Second, nil
}

// unsettable says whether a driver has answered that its timeout is what it is: no such call, or not this value.
func unsettable(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL)
}

// feed starts the countdown anew. A write is understood by every driver, WDIOC_KEEPALIVE not.
func (w *watchdog) feed() error {
	if _, err := w.file.Write([]byte(feedByte)); err != nil {
		return fmt.Errorf("%s: feed: %w", w.path, err)
	}
	return nil
}

// disarm stops the countdown and closes the device. errEndless: it runs on, and the device stays open, for whoever closed
// it could only wait for the reset. The order to stop tells that beforehand; a driver that does not know the order heeds
// the magic close.
func (w *watchdog) disarm() error {
	off := int32(unix.WDIOS_DISABLECARD)
	if err := w.file.Ioctl(unix.WDIOC_SETOPTIONS, &off); errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w", w.path, errEndless)
	}
	_, err := w.file.Write([]byte(magicClose))
	if err = errors.Join(err, w.file.Close()); err != nil {
		return fmt.Errorf("%s: disarm: %w", w.path, err)
	}
	return nil
}

// kernelWatchdog gives the kernel's devices.
type kernelWatchdog struct{}

// charDevice is one of them.
type charDevice struct{ fd int }

// open refuses anything that is no character device before it opens it: a file that takes every write would pass for a
// watchdog, and a FIFO would block.
func (k kernelWatchdog) open(path string) (watchdogFile, error) {
	if err := k.usable(path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("another process has it open, such as systemd or watchdogd: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return charDevice{fd}, nil
}

func (kernelWatchdog) usable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return errors.New("no character device")
	}
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("this user may not write to it: %w", err)
	}
	return nil
}

func (d charDevice) Write(b []byte) (int, error) {
	for {
		n, err := unix.Write(d.fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (d charDevice) Ioctl(request uint, value *int32) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), uintptr(request), uintptr(unsafe.Pointer(value)))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

func (d charDevice) Close() error { return unix.Close(d.fd) }
