package pgctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// How long the orderly way may take before Postgres is restarted (V2): a receiver to end after SIGTERM, and the whole
// proof, which on a busy machine waits for its turn on the processors.
const (
	receiverPatience = 50 * time.Millisecond
	proofPatience    = 250 * time.Millisecond
)

// cutStop is how long the fast shutdown of that restart may take before it goes on with an immediate one.
const cutStop = time.Second

// errNotProven says why the orderly way did not come to its end.
var errNotProven = errors.New("cut not proven")

// Cut ends the WAL receiver for certain (V2): when it returns nil, nothing confirms WAL to any source any more, and no
// receiver starts until the next Follow. primary_conninfo is emptied durably, the passfiles are gone, Postgres has read
// the change, and the receiver's process has ended. Without that proof in time it restarts Postgres as a standby
// without a source, which is proof enough, and returns when the new postmaster lives.
//
// With a replication password the passfile is the proof (V2): it is removed before the receivers are looked for, so one
// that has read it bears its name by then and is ended, and one that is forked later cannot log in. It takes no look at
// the startup process, which may go on asking for receivers until it has read the change.
//
// Without a password the proof is this, where the server can give it (version.go). Only the startup process asks for receivers, with the primary_conninfo that it
// last read, and it reads anew in HandleStartupProcInterrupts. SHOW in a session proves nothing about it. So:
//
//  1. SIGHUP goes to the startup process directly, and is seen as delivered (no longer pending in /proc).
//  2. Replay is paused and the pause confirmed. The startup process confirms a pause in recoveryPausesHere only, where
//     each turn of the loop first calls HandleStartupProcInterrupts. The pause was asked for after the SIGHUP was
//     delivered, so the turn that confirmed it has read the empty primary_conninfo. Then replay is resumed (if it was
//     paused before, it is resumed and paused again in one expression, and stays paused).
//  3. Any receiver left is one that runs, or one that was asked for earlier and is not yet forked. The postmaster
//     forks on a signal, and handles signals between two turns of its accept loop: two connections, one after the other,
//     each answered by a forked process, prove that it has made such a turn. After them a receiver would be a child that
//     /proc shows. Children are looked at until none is a receiver, nor a process too young to bear a name.
//
// A startup process that waits in a recovery conflict or for recovery_min_apply_delay confirms no pause: there the
// restart is the only proof. Source: xlogrecovery.c, walreceiverfuncs.c and postmaster.c, PostgreSQL 15.
func (p *Postgres) Cut(ctx context.Context) error {
	run, err := p.orderlyCut(ctx)
	if err == nil {
		return nil
	}
	if run.pid == 0 || ctx.Err() != nil {
		return fmt.Errorf("cut: %w", err)
	}
	p.opt.Log.WarnContext(ctx, "postgres restarted without a source", "reason", err)
	if err := p.restartCut(ctx, run); err != nil {
		return fmt.Errorf("cut: restart: %w", err)
	}
	return nil
}

// orderlyCut is the way without a restart; nil is the proof, also that there is no server at all. An error with a
// server is for the restart. No Follow comes between.
func (p *Postgres) orderlyCut(ctx context.Context) (run postmaster, err error) {
	p.source.Lock()
	defer p.source.Unlock()
	if err := p.emptySource(); err != nil {
		return run, err
	}
	run, running, err := p.findServer(ctx)
	if err != nil || !running {
		return postmaster{}, err
	}
	if err := p.guard.Load().Reload(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
		return postmaster{}, err
	}
	quick, cancel := context.WithTimeoutCause(ctx, proofPatience, errNotProven)
	defer cancel()
	return run, p.endReceiver(quick, run)
}

// emptySource empties primary_conninfo and removes the passfiles; the caller holds p.source.
func (p *Postgres) emptySource() error {
	if _, err := os.Stat(filepath.Join(p.opt.DataDir, pgVersionFile)); errors.Is(err, fs.ErrNotExist) {
		return p.dropPassfiles(nil) // no cluster, nothing else to cut
	}
	if _, err := p.writeSource(nil, cluster.Member{}); err != nil {
		return err
	}
	return p.dropPassfiles(nil)
}

// findServer looks for the server. One that has read the old file and has not yet written its pid is known to the guard
// alone.
func (p *Postgres) findServer(ctx context.Context) (run postmaster, running bool, err error) {
	if run, running = p.postmaster(); running {
		return run, true, nil
	}
	st, err := p.guard.Load().Status(ctx)
	if err != nil || st.Postmaster == 0 {
		return run, false, err
	}
	run, err = p.awaitPostmaster(ctx)
	return run, err == nil, err
}

// endReceiver ends the receiver and gives the proof: nil.
func (p *Postgres) endReceiver(ctx context.Context, run postmaster) error {
	startup, err := endReceivers(run) // first: from here on little more is confirmed
	if err != nil {
		return err
	}
	if startup == 0 {
		// Past recovery it is a primary, promoted by hand since a holder does not promise: it must not go on as one.
		return fmt.Errorf("no startup process: %w", errNotProven)
	}
	if p.lateReceiverLockedOut() {
		return settleReceivers(ctx, run)
	}
	if major, err := dataMajor(p.opt.DataDir); err != nil || !confirmsPause(major) {
		return errors.Join(err, fmt.Errorf("pause of replay: the server cannot confirm it: %w", errNotProven))
	}
	if err := rereadConfig(ctx, startup); err != nil {
		return err
	}
	if err := p.confirmPause(ctx); err != nil {
		return err
	}
	if err := settleReceivers(ctx, run); err != nil {
		return err
	}
	for range 2 {
		if err := p.knock(ctx); err != nil {
			return err
		}
	}
	return settleReceivers(ctx, run)
}

// lateReceiverLockedOut says whether a receiver that is forked after the cut could not log in anywhere: the password was
// in the passfile alone (see serverEnv), and that is gone. It rests on the source asking for one, as every node of ours does
// whose file has the password too.
func (p *Postgres) lateReceiverLockedOut() bool {
	return p.opt.Replication.Password != ""
}

// receivers gives the WAL receivers, the children that may become one, and the startup process.
func receivers(run postmaster) (list []child, startup int, err error) {
	all, err := run.children()
	if err != nil {
		return nil, 0, err
	}
	for _, c := range all {
		if is, unsure := c.isReceiver(); is || unsure {
			list = append(list, c)
		} else if c.isStartup() {
			startup = c.pid
		}
	}
	return list, startup, nil
}

// endReceivers sends SIGTERM to every WAL receiver.
func endReceivers(run postmaster) (startup int, err error) {
	list, startup, err := receivers(run)
	for _, c := range list {
		if is, _ := c.isReceiver(); is {
			err = errors.Join(err, signalChild(c.pid, unix.SIGTERM))
		}
	}
	return startup, err
}

// cutPause is between two looks at the children.
const cutPause = 500 * time.Microsecond

// settleReceivers waits until every child that is, or may become, a WAL receiver has ended or has got another name, and
// ends those that are one. Children forked after its first look do not matter to it: sessions come all the time, and
// its own knocks are among them.
func settleReceivers(ctx context.Context, run postmaster) error {
	list, _, err := receivers(run)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := settle(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// settle does that for one child. A receiver that does not end in receiverPatience after SIGTERM is given up (V2).
func settle(ctx context.Context, c child) error {
	birth, alive := processBirth(c.pid)
	for termed := false; alive; {
		is, unsure := c.isReceiver()
		if !is && !unsure {
			return nil
		}
		if is && !termed {
			if err := signalChild(c.pid, unix.SIGTERM); err != nil {
				return err
			}
			termed = true
			limited, cancel := context.WithTimeoutCause(ctx, receiverPatience, errNotProven)
			defer cancel()
			ctx = limited
		}
		if ended := pause(ctx, cutPause); ended != nil {
			return fmt.Errorf("process %d (%s) has not ended: %w", c.pid, c.title, ended)
		}
		var again string
		again, alive = processBirth(c.pid)
		alive = alive && again == birth
		c.title = processTitle(c.pid)
	}
	return nil
}

// rereadConfig has the startup process read the configuration and waits until the signal is delivered.
func rereadConfig(ctx context.Context, startup int) error {
	if err := unix.Kill(startup, unix.SIGHUP); err != nil {
		return fmt.Errorf("reload of startup process %d: %w", startup, err)
	}
	for {
		pending, err := signalPending(startup, unix.SIGHUP)
		if err != nil || !pending {
			return err
		}
		if ended := pause(ctx, cutPause); ended != nil {
			return fmt.Errorf("SIGHUP to startup process %d is pending: %w", startup, ended)
		}
	}
}

// pauseSQL is one statement so that the server itself resumes replay, whatever becomes of this process.
const pauseSQL = `DO $$
DECLARE
	was text := pg_get_wal_replay_pause_state();
	give_up timestamptz := clock_timestamp() + interval '100 ms';
	confirmed boolean;
BEGIN
	IF was = 'not paused' THEN
		PERFORM pg_wal_replay_pause();
	ELSE
		PERFORM pg_wal_replay_resume(), pg_wal_replay_pause();
	END IF;
	LOOP
		confirmed := pg_get_wal_replay_pause_state() = 'paused';
		EXIT WHEN confirmed OR clock_timestamp() > give_up;
		PERFORM pg_sleep(0.0002);
	END LOOP;
	IF was = 'not paused' THEN
		PERFORM pg_wal_replay_resume();
	END IF;
	IF NOT confirmed THEN
		RAISE EXCEPTION 'startup process did not confirm a pause' USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
END $$`

// confirmPause is step 2 of the proof.
func (p *Postgres) confirmPause(ctx context.Context) error {
	err := p.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, pauseSQL)
		return err
	})
	if err != nil {
		return fmt.Errorf("pause of replay: %w", err)
	}
	return nil
}

// sslRequest is the code of the protocol's first message that asks for encryption, which needs no log-in.
// Source: NEGOTIATE_SSL_CODE, pqcomm.h, PostgreSQL 15.
const sslRequest = 80877103

// socketPath is the server's unix socket.
func (p *Postgres) socketPath() string {
	return filepath.Join(p.opt.SocketDir, fmt.Sprintf(".s.PGSQL.%d", p.opt.Port))
}

// knock connects to the socket and waits for one byte from the process that the postmaster forked for it.
func (p *Postgres) knock(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.socketPath())
	if err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was sent that could be lost
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return fmt.Errorf("knock: %w", err)
		}
	}
	msg := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), sslRequest)
	if _, err := conn.Write(msg); err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	if _, err := io.ReadFull(conn, msg[:1]); err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	return nil
}

// restartCut restarts the server without a source. Locks are taken in the order of Start: change, then source.
func (p *Postgres) restartCut(ctx context.Context, run postmaster) error {
	p.change.Lock()
	defer p.change.Unlock()
	p.source.Lock()
	defer p.source.Unlock()
	if now, running := p.postmaster(); running && !now.same(run) {
		p.opt.Log.InfoContext(ctx, "postgres was started anew meanwhile", "former_pid", run.pid, "pid", now.pid)
	}
	if err := p.emptySource(); err != nil {
		return err
	}
	if err := p.stopLocked(ctx, StopFast, cutStop); err != nil {
		return err
	}
	if err := p.clearTheGround(ctx); err != nil {
		return err
	}
	// After a promotion, or as a primary, it has no such file; a cut server never comes back as a primary (U3).
	if err := writeStandbySignal(p.opt.DataDir); err != nil {
		return err
	}
	if err := p.forgetPlaceholders(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	noTCP := p.noTCP
	p.mu.Unlock()
	return p.runServer(ctx, StartSpec{NoTCP: noTCP})
}
