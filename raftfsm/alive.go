//go:build !wasip1

package raftfsm

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacked ends a connection on which what was sent is not acknowledged for deadAfter: no keep-alive probe is sent while
// something is on its way, and TCP by itself goes on for about 15 minutes (tcp_retries2). An accepted connection has it from
// its listener.
func limitUnacked(_, _ string, raw syscall.RawConn) error {
	var err error
	control := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	return errors.Join(control, err)
}
