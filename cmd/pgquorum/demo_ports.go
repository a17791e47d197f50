package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"os"
	"strconv"
)

// demoPorts is a block of free ports on loopback: 1 to 3 Postgres, 11 to 13 API, 21 to 23 Raft, 50 and 51 HAProxy.
type demoPorts struct {
	base int
	lock net.Listener // on the block's last port, for the demo's life: another demo takes another block
}

const (
	postgresOffset = 0
	apiOffset      = 10
	raftOffset     = 20
	writeOffset    = 50
	readOffset     = 51
	lockOffset     = 99
	blockSize      = 100
)

// findPorts looks for a block under the ephemeral ports. From those, an outgoing connection could take the port of a
// Postgres that is down for a moment; a client that dials such a port on loopback can even reach itself. From 20000 on are the
// ports that this project's tests hold while nobody listens on them (internal/testport).
func findPorts() (*demoPorts, error) {
	const lowest, tests, tries = 10000, 20000, 50
	highest := min(ephemeralFrom(), tests)
	if highest < lowest+blockSize {
		highest = tests // the machine's range leaves no room
	}
	for range tries {
		n, err := rand.Int(rand.Reader, big.NewInt(int64((highest-lowest)/blockSize)))
		if err != nil {
			return nil, err
		}
		p := &demoPorts{base: lowest + int(n.Int64())*blockSize}
		if p.take() {
			return p, nil
		}
	}
	return nil, fmt.Errorf("ports on 127.0.0.1: no free block of %d from %d to %d in %d tries", blockSize, lowest, highest, tries)
}

// take locks the block and looks whether its ports are free.
func (p *demoPorts) take() bool {
	lock, err := net.Listen("tcp", p.address(lockOffset))
	if err != nil {
		return false
	}
	for _, offset := range []int{1, 2, 3, 11, 12, 13, 21, 22, 23, writeOffset, readOffset} {
		l, err := net.Listen("tcp", p.address(offset))
		if err != nil {
			lock.Close()
			return false
		}
		l.Close()
	}
	p.lock = lock
	return true
}

func (p *demoPorts) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.base+offset))
}

// ephemeralFrom is the lowest port that the kernel gives to outgoing connections. Source: ip(7).
func ephemeralFrom() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) != 2 {
		return 0
	}
	low, err := strconv.Atoi(string(fields[0]))
	if err != nil {
		return 0
	}
	return low
}

// demoSecrets are the passwords of one demo.
type demoSecrets struct{ api, superuser, replication, rewind, app string }

func newDemoSecrets() demoSecrets {
	secret := func() string {
		b := make([]byte, 12)
		rand.Read(b) // never fails; source: crypto/rand
		return hex.EncodeToString(b)
	}
	return demoSecrets{secret(), secret(), secret(), secret(), secret()}
}
