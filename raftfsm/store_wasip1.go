package raftfsm

import "errors"

// openBolt has nothing to open: bbolt needs a file system with locks and shared mappings.
func openBolt(string) (Store, error) {
	return nil, errors.New("no bbolt here: want Options.OpenStore")
}
