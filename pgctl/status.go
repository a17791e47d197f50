package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// healthDeadline bounds the status query (docs/protocol.md section 11): a server that lives and does not answer by then hangs.
const healthDeadline = 2 * time.Second

// lastRunning is what the last answered status query said, for a server that then hangs.
type lastRunning struct {
	run      postmaster
	role     cluster.Role
	timeline cluster.Timeline
}

// Status looks at the local Postgres: by one round trip on the kept connection when it runs, else by its files. A server
// that lives but does not answer in 2 s is PostgresHung, with the role that it last told. The error says that it could
// not be looked at; a Postgres in a bad state is no error.
func (p *Postgres) Status(ctx context.Context) (cluster.PostgresStatus, error) {
	run, running := p.postmaster()
	control := p.cachedControl
	if running {
		control = p.lastControl
	}
	data := p.dataFactsBy(ctx, control)
	st := cluster.PostgresStatus{
		Data: data.state, DataDetail: data.detail, Incarnation: data.incarnation, State: cluster.PostgresStopped,
	}
	if data.control != nil {
		st.SystemID = data.control.SystemID
	}
	st.Source, st.SourceTerm, st.SourceTimeline = p.readSource()
	if !running {
		return st, p.stoppedStatus(&st, data.control)
	}
	quick, cancel := context.WithTimeout(ctx, p.healthDeadline())
	err := p.runningStatus(quick, &st, data.control)
	late := quick.Err() != nil && ctx.Err() == nil
	cancel()
	switch {
	case err == nil:
		st.State = cluster.PostgresRunning
		p.mu.Lock()
		p.last = lastRunning{run: run, role: st.Role, timeline: st.Timeline}
		p.mu.Unlock()
		return st, nil
	case late:
		st.State = cluster.PostgresHung
		p.mu.Lock()
		if p.last.run.same(run) {
			st.Role, st.Timeline = p.last.role, p.last.timeline
		}
		p.mu.Unlock()
		return st, nil
	case noServerYet(err):
		st.State = cluster.PostgresStarting
		if c, err := p.cachedControl(ctx); err == nil { // an estimate (C3): without it none is made
			st.Redo = c.Redo
		}
		if run.state == "stopping" {
			st.State = cluster.PostgresStopping
		}
		return st, nil
	}
	if now, still := p.postmaster(); !still || !now.same(run) {
		return st, p.stoppedStatus(&st, data.control) // it ended under the question
	}
	return st, fmt.Errorf("status: %w", err)
}

// stoppedStatus is what the control file says.
func (p *Postgres) stoppedStatus(st *cluster.PostgresStatus, c *ControlData) error {
	if c == nil {
		return nil
	}
	st.Clean, st.Redo = c.Clean(), c.Redo
	st.Timeline = c.recoversTo()
	return nil
}

// statusSQL is one row. Functions that exist on one side only stand behind a CASE on the role.
//
// A receiver bears the state streaming from its first moment on, also while its source still refuses it. Only one that
// has written WAL, has had a message, or waits for the next in its main loop streams: written_lsn is null and the two times
// are one until then, and whoever is still connecting or refused waits elsewhere. A primary that is idle may send the first
// message only after half of wal_sender_timeout. Source: WalReceiverMain, walreceiver.c, and libpqwalreceiver.c, PostgreSQL 15.
const statusSQL = `
SELECT s.r, current_setting('server_version_num')::int, pg_postmaster_start_time(),
	current_setting('synchronous_standby_names'),
	EXISTS (SELECT FROM pg_settings WHERE pending_restart),
	CASE WHEN NOT s.r THEN pg_current_wal_flush_lsn()::text END,
	CASE WHEN NOT s.r THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
	CASE WHEN s.r THEN pg_last_wal_receive_lsn()::text END,
	CASE WHEN s.r THEN pg_last_wal_replay_lsn()::text END,
	CASE WHEN s.r THEN pg_is_wal_replay_paused() ELSE false END,
	CASE WHEN s.r THEN pg_last_xact_replay_timestamp() END,
	CASE WHEN s.r THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
	(SELECT received_tli FROM pg_stat_wal_receiver w WHERE status = 'streaming' AND
		(written_lsn IS NOT NULL OR last_msg_send_time IS DISTINCT FROM last_msg_receipt_time OR
		EXISTS (SELECT FROM pg_stat_get_activity(w.pid) a WHERE a.wait_event = 'WalReceiverMain')))
FROM (SELECT pg_is_in_recovery() AS r) s`

// walSendersSQL is one row a walsender; seemed is the reply's age as the two machines' clocks have it.
const walSendersSQL = `
SELECT pid, backend_start, application_name, coalesce(host(client_addr), ''), coalesce(state, ''), coalesce(sync_state, ''),
	coalesce(sent_lsn, '0/0')::text, coalesce(flush_lsn, '0/0')::text, coalesce(replay_lsn, '0/0')::text, reply_time,
	coalesce(extract(epoch FROM clock_timestamp() - reply_time), 0)::float8
FROM pg_stat_replication ORDER BY pid`

// runningStatus fills st by one round trip. A server that is promoted right between two functions answers that recovery
// is not in progress; it is then asked once more.
func (p *Postgres) runningStatus(ctx context.Context, st *cluster.PostgresStatus, c *ControlData) error {
	err := p.askStatus(ctx, st, c)
	if sqlState(err) == codeObjectState {
		err = p.askStatus(ctx, st, c)
	}
	return err
}

func (p *Postgres) askStatus(ctx context.Context, st *cluster.PostgresStatus, c *ControlData) error {
	return p.withConn(ctx, func(conn *pgx.Conn) (err error) {
		batch := &pgx.Batch{}
		batch.Queue(statusSQL)
		batch.Queue(walSendersSQL)
		answers := conn.SendBatch(ctx, batch)
		defer func() { err = errors.Join(err, answers.Close()) }()
		if err := p.scanStatus(answers.QueryRow(), st, c); err != nil {
			return err
		}
		rows, err := answers.Query()
		if err != nil {
			return err
		}
		st.Replication, err = p.scanSenders(rows)
		return err
	})
}

// scanStatus reads statusSQL's row.
func (p *Postgres) scanStatus(row pgx.Row, st *cluster.PostgresStatus, c *ControlData) error {
	var (
		inRecovery                        bool
		started                           time.Time
		flushed, file, received, replayed *string
		replayTime                        *time.Time
		replayDelay                       *float64
		receivedTLI                       *int32
	)
	err := row.Scan(&inRecovery, &st.Version, &started, &st.SyncNames, &st.PendingRestart, &flushed, &file,
		&received, &replayed, &st.ReplayPaused, &replayTime, &replayDelay, &receivedTLI)
	if err != nil {
		return err
	}
	st.StartTime = started.Format(time.RFC3339Nano)
	for _, v := range []struct {
		text *string
		lsn  *cluster.LSN
	}{{flushed, &st.Current}, {received, &st.Received}, {replayed, &st.Replayed}} {
		if v.text == nil {
			continue
		}
		if *v.lsn, err = cluster.ParseLSN(*v.text); err != nil {
			return err
		}
	}
	if replayTime != nil {
		st.ReplayTime = replayTime.Format(time.RFC3339Nano)
		st.ReplayDelay = time.Duration(*replayDelay * float64(time.Second))
	}
	st.Role = cluster.RolePrimary
	if !inRecovery {
		st.Timeline, err = timelineOfFile(*file)
		return err
	}
	st.Role = cluster.RoleStandby
	st.Streaming = receivedTLI != nil
	if st.Streaming {
		st.Timeline = cluster.Timeline(*receivedTLI)
		return nil
	}
	st.Timeline, err = p.replayTimeline(c, st.Replayed)
	return err
}

// replayTimeline is the timeline of the WAL that a standby without a receiver has replayed: no function tells it.
func (p *Postgres) replayTimeline(c *ControlData, replayed cluster.LSN) (cluster.Timeline, error) {
	if c == nil {
		return 0, nil
	}
	h, err := p.walFiles(c).ownHistory(c)
	if err != nil {
		return 0, err
	}
	return h.at(replayed), nil
}

// scanSenders reads walSendersSQL's rows; replies are aged as for S8, without trust in the standbys' clocks.
func (p *Postgres) scanSenders(rows pgx.Rows) ([]cluster.WalSender, error) {
	var senders []sender
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w cluster.WalSender, err error) {
		var s sender
		var sent, flushed, replayed string
		var seemed float64
		err = row.Scan(&s.pid, &s.started, &w.AppName, &w.Addr, &w.State, &w.Sync, &sent, &flushed, &replayed, &s.reply, &seemed)
		if err != nil {
			return w, err
		}
		w.PID = int(s.pid)
		s.seemed = time.Duration(seemed * float64(time.Second))
		senders = append(senders, s)
		if w.Sent, err = cluster.ParseLSN(sent); err != nil {
			return w, err
		}
		if w.Flushed, err = cluster.ParseLSN(flushed); err != nil {
			return w, err
		}
		w.Replayed, err = cluster.ParseLSN(replayed)
		return w, err
	})
	if err != nil {
		return nil, err
	}
	p.sync.replies.fill(senders, p.opt.Clock())
	for i := range list {
		list[i].ReplyAge = senders[i].age
	}
	return list, nil
}

// healthDeadline is what Options say, or the default.
func (p *Postgres) healthDeadline() time.Duration {
	if p.opt.HealthDeadline > 0 {
		return p.opt.HealthDeadline
	}
	return healthDeadline
}
