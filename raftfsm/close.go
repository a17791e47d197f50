package raftfsm

import (
	"context"
	"errors"
	"fmt"
)

// Close stops Raft, the listener and every connection, and closes the store. Whoever wants no gap demotes Postgres and
// transfers leadership before. When ctx ends first (a disk that hangs), the rest goes on behind and the error says so.
func (n *Node) Close(ctx context.Context) error {
	n.closeOnce.Do(func() {
		close(n.ending)
		go func() {
			defer close(n.closeDone)
			n.closeErr = n.stop()
		}()
	})
	select {
	case <-n.closeDone:
		return n.closeErr
	case <-ctx.Done():
		return fmt.Errorf("raft close is not done: %w", ctx.Err())
	}
}

// stop closes everything in the order that Raft needs: nothing goes out or comes in any more, then Raft itself once it has answered who asked for a transfer, then
// the heartbeats in handling, and the store last, because Raft panics on a heartbeat whose store is closed.
func (n *Node) stop() error {
	if n.watch != nil {
		n.watch.stop()
	}
	n.spreading.Stop()
	var errs []error
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.asking.Wait()
	if n.trans != nil {
		errs = append(errs, n.trans.Close())
	}
	if n.raft != nil {
		n.transfers.close(2 * n.raft.ReloadableConfig().ElectionTimeout)
		errs = append(errs, n.raft.Shutdown().Error())
	}
	errs = append(errs, n.acks.stop(context.Background()))
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// abandon closes what a failed Open had opened.
func (n *Node) abandon() {
	close(n.ending)
	if err := n.stop(); err != nil {
		n.opt.Log.Warn("raft did not close cleanly", "error", err)
	}
}

// CloseTransport ends Raft's part of the channel for good, and leaves the peer channel: a node that cannot write must
// stop its heartbeats, or it would never be replaced as leader (B2). Its lease is not proven again.
func (n *Node) CloseTransport() error {
	err := n.trans.Close()
	n.mux.closeKind(kindRaft)
	return err
}

func (n *Node) closed() bool {
	select {
	case <-n.ending:
		return true
	default:
		return false
	}
}
