package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// joined is a connection from n1 to n2's agent.
func joined(t *testing.T, n *Network) (near, far net.Conn) {
	t.Helper()
	l := n.Listen("n2", serviceAgent)
	near, err := n.Dial(t.Context(), "n1", "n2", serviceAgent)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// arrives writes at one end and gives how long it took to come out of the other.
func arrives(t *testing.T, from, to net.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork("n1", "n2")
		near, far := joined(t, n)
		if d := arrives(t, near, far); d != usualDelay {
			t.Errorf("took %v", d)
		}
		n.Set("n1", "n2", false, 7*time.Millisecond)
		if d := arrives(t, near, far); d != 7*time.Millisecond {
			t.Errorf("slow link: %v", d)
		}
		if d := arrives(t, far, near); d != usualDelay {
			t.Errorf("the way back: %v", d)
		}
		n.Set("n1", "n2", true, usualDelay)
		time.AfterFunc(3*time.Second, func() { n.Set("n1", "n2", false, usualDelay) })
		if d := arrives(t, near, far); d < 3*time.Second || d > 3*time.Second+10*usualDelay {
			t.Errorf("cut for 3 s, then healed: %v", d)
		}
		n.Freeze("n2", serviceAgent, true)
		time.AfterFunc(time.Second, func() { n.Freeze("n2", serviceAgent, false) })
		if d := arrives(t, near, far); d < time.Second || d > time.Second+10*usualDelay {
			t.Errorf("frozen for 1 s: %v", d)
		}
		_ = near.Close()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the goodbye: %v", err)
		}
		drain()
	})
}

// drain lets what is on its way arrive or be given up.
func drain() { <-time.After(2 * tcpGivesUp) }

// A host that loses its power tells nobody; a process that is killed does; one that is not there refuses.
func TestEndsOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork("n1", "n2")
		if _, err := n.Dial(t.Context(), "n1", "n2", serviceAgent); !errors.Is(err, errRefused) {
			t.Errorf("nobody listens: %v", err)
		}
		near, _ := joined(t, n)
		n.Kill("n2", serviceAgent, true)
		if err := near.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the power went: %v", err)
		}
		near, _ = joined(t, n)
		n.Kill("n2", serviceAgent, false)
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the process was killed: %v", err)
		}
		n.Set("n2", "n1", true, usualDelay) // the way back only
		n.Listen("n2", serviceAgent)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := n.Dial(ctx, "n1", "n2", serviceAgent); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deaf: %v", err)
		}
		drain()
	})
}
