package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// crashStopDeadline bounds the fast stop at the end of a crash recovery; it writes what recovery made dirty.
const crashStopDeadline = 5 * time.Minute

// CrashRecover brings a directory that was not shut down cleanly into good order (U3): Postgres starts as a standby
// without a source and without TCP, replays to the end of its WAL, and is stopped. `postgres --single` would refuse
// standby.signal, and a start without that file could serve as a primary. A directory in good order is left alone; one
// whose crash recovery was stopped half way, such as by a cut that could not be proven, is not in good order. ctx bounds
// the replay; at its end the server is stopped too, and recovery can be taken up by calling again.
func (p *Postgres) CrashRecover(ctx context.Context) error {
	c, err := p.ControlData(ctx)
	if err != nil {
		return fmt.Errorf("crash recovery: %w", err)
	}
	if c.Clean() {
		return nil
	}
	err = p.replayAll(ctx)
	// The stop must come also when ctx is over.
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), crashStopDeadline+time.Minute)
	defer cancel()
	if stop := p.Stop(stopCtx, StopFast, crashStopDeadline); stop != nil {
		err = errors.Join(err, stop)
	}
	if err != nil {
		return fmt.Errorf("crash recovery: %w", err)
	}
	if c, err = p.ControlData(ctx); err != nil {
		return fmt.Errorf("crash recovery: %w", err)
	}
	if !c.Clean() {
		return fmt.Errorf("crash recovery: after the stop the directory is %q: %w", c.State, ErrNotShutDown)
	}
	return nil
}

// replayAll starts the standby and waits until it has replayed the end of WAL. The list of synchronous standbys is of
// no matter to a server that accepts no write; the next Start writes it again.
func (p *Postgres) replayAll(ctx context.Context) error {
	if err := p.Start(ctx, StartSpec{NoTCP: true}); err != nil {
		return err
	}
	for {
		pos, err := p.Position(ctx)
		if err != nil {
			return err
		}
		live, err := p.readLive(ctx)
		if err != nil {
			return err
		}
		if live.replayed >= pos.LSN {
			return nil
		}
		if ended := pause(ctx, 20*time.Millisecond); ended != nil {
			return fmt.Errorf("replayed up to %v of %v: %w", live.replayed, pos.LSN, ended)
		}
	}
}
