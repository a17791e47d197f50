package raftfsm

import (
	"errors"
	"syscall"
)

// OpenBolt has nothing to open: bbolt needs a file system with locks and shared mappings.
func OpenBolt(string) (Store, error) {
	return nil, errors.New("no bbolt here: want Options.OpenStore")
}

// limitUnacked has nothing to do: the simulation's network has a means of its own.
func limitUnacked(_, _ string, _ syscall.RawConn) error { return nil }
