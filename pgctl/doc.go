// Package pgctl is everything that touches the local Postgres: one file per operation, and the guard.
//
// It decides nothing: the agent says what to do, pgctl does it with PostgreSQL's own programs (initdb, postgres, pg_ctl,
// pg_basebackup, pg_rewind, pg_waldump, pg_controldata) and says what happened. What it does keep by itself are the
// rules that must hold whoever asks:
//
//	V1  one function (Follow) writes primary_conninfo, and refuses a source of a term below the promise
//	V2  the cut ends the WAL receiver for certain
//	U2  promotion, and every start without standby.signal, goes through the guard, which checks the lease
//	U4  marks, promises and "rewind in progress" live under raft.data_dir/guard, never in PGDATA
//	B4  nothing deletes the last copy of data
package pgctl
