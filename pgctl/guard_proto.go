package pgctl

import (
	"errors"
	"fmt"
	"time"

	"pgquorum/cluster"
)

// guardVersion is the version of the guard's protocol that hello carries. hello, lease, fence and status are frozen:
// an agent of any later release can arm and fence the guard of an earlier one (U1).
const guardVersion = 1

// GuardOptions say where a guard lives and which Postgres it runs.
type GuardOptions struct {
	Dir     string // raft.data_dir/guard: socket, lock, log and marks
	DataDir string // PGDATA; taken anew at each start, so the directory behind it may be swapped
	BinDir  string // where postgres is

	watchdog watchdogDriver // a test's fake; nil: the kernel's
}

// StopMode says how a stop begins.
type StopMode string

// The stop modes, with pg_ctl's words.
const (
	StopFast      StopMode = "fast"      // SIGINT: sessions end, a shutdown checkpoint is written
	StopImmediate StopMode = "immediate" // SIGQUIT: no checkpoint, crash recovery at the next start
)

// StartRequest asks for a postmaster.
type StartRequest struct {
	Args    []string     `json:"args,omitempty"`    // after `postgres -D <PGDATA>`
	Primary bool         `json:"primary,omitempty"` // needs a live lease for Term (U2); otherwise standby.signal must be there
	Term    cluster.Term `json:"term,omitempty"`
	LogFile string       `json:"log_file,omitempty"` // stdout and stderr are appended to it; empty: the guard's own log
}

// EventKind is what a guard reports unasked.
type EventKind string

// The events.
const (
	EventDied   EventKind = "died"   // the postmaster ended without an order; what remains of it is being ended
	EventExited EventKind = "exited" // the postmaster ended without an order of this session, and all of it was reaped
	EventFenced EventKind = "fenced" // the lease ran out: everything was ended and reaped
	EventFrozen EventKind = "frozen" // the lease ran out: every process is stopped, and may go on under the next one (U6)
	EventGone   EventKind = "gone"   // the connection to the guard was lost; made by the client
)

// GuardEvent is something that the guard, or its end, tells unasked.
type GuardEvent struct {
	Kind   EventKind       `json:"event"`
	Term   cluster.Term    `json:"term,omitempty"`   // of the lease that ran out; exited: of the lease held, else of the start
	Detail string          `json:"detail,omitempty"` // exited: the exit status; fenced: what could not be written, if anything
	At     cluster.Instant `json:"at,omitempty"`     // exited: when the postmaster's end was seen; fenced: when the fence began
}

// GuardDetail is everything a guard says of itself: what an agent needs that finds a guard already running.
type GuardDetail struct {
	cluster.GuardStatus
	Version int           `json:"version"`
	Lease   cluster.Lease `json:"lease"`             // the live lease, on this machine's clock; zero: none
	Fence   time.Duration `json:"fence"`             // F of that lease
	Primary bool          `json:"primary,omitempty"` // the postmaster was started as a primary, or promoted
	Fencing bool          `json:"fencing,omitempty"` // a fence is on its way
	Grace   time.Duration `json:"grace,omitempty"`   // of the live lease (U6); 0: what runs at its end is ended
	Last    *GuardEvent   `json:"last,omitempty"`    // the newest exited or fenced event, pushed or not
	Notes   []string      `json:"notes,omitempty"`   // what the machine did not permit
}

// The operations. hello, lease, fence and status are the frozen core.
const (
	opHello   = "hello"
	opLease   = "lease"
	opFence   = "fence"
	opStatus  = "status"
	opStart   = "start"
	opStop    = "stop"
	opPromote = "promote"
	opReload  = "reload"
	opQuit    = "quit"

	// A guard of before each of these answers bad_request.
	opWatchdog = "watchdog"
	opThaw     = "thaw"
)

// guardRequest is one line from an agent.
type guardRequest struct {
	ID       uint64          `json:"id"`
	Op       string          `json:"op"`
	Version  int             `json:"version,omitempty"`   // hello
	Term     cluster.Term    `json:"term,omitempty"`      // lease, fence, promote
	RaftTerm uint64          `json:"raft_term,omitempty"` // lease; kept for a restarted agent, the guard draws nothing from it
	End      cluster.Instant `json:"end,omitempty"`       // lease: E
	Fence    time.Duration   `json:"fence,omitempty"`     // lease: F, nanoseconds
	Grace    time.Duration   `json:"grace,omitempty"`     // lease: a primary is frozen at E - F for so long at most, nanoseconds; 0: it is ended (U6)
	From     cluster.Term    `json:"from,omitempty"`      // thaw: the term in which it was frozen
	Start    *StartRequest   `json:"start,omitempty"`
	Mode     StopMode        `json:"mode,omitempty"`     // stop
	Deadline time.Duration   `json:"deadline,omitempty"` // stop, nanoseconds

	Watchdog *WatchdogSettings `json:"watchdog,omitempty"`
}

// guardAnswer is one line to an agent: the answer to the request ID, or an event (ID 0).
type guardAnswer struct {
	ID     uint64       `json:"id,omitempty"`
	OK     bool         `json:"ok,omitempty"`
	Code   string       `json:"code,omitempty"` // why not, for programs
	Error  string       `json:"error,omitempty"`
	Status *GuardDetail `json:"status,omitempty"` // hello and status
	Event  *GuardEvent  `json:"event,omitempty"`
}

// Errors of the guard that a caller decides on.
var (
	ErrNoGuard      = errors.New("no guard answers")
	ErrGuardVersion = errors.New("guard speaks another version")
	ErrLeaseRefused = errors.New("lease refused")
	ErrNotFenced    = errors.New("not fenced")
	ErrSuperseded   = errors.New("a newer agent session has taken the guard over")
	ErrRunning      = errors.New("a postmaster runs")
	ErrNotRunning   = errors.New("no postmaster runs")
	ErrNoStandby    = errors.New("standby.signal missing")
	ErrNoWatchdog   = errors.New("a watchdog is required")
	ErrFrozen       = errors.New("postgres is frozen")
	ErrNotFrozen    = errors.New("postgres is not frozen in that term")
)

// errBadRequest is a message that no agent should send.
var errBadRequest = errors.New("bad request")

// guardCodes pairs the sentinels with their words on the wire; the words are frozen.
var guardCodes = []struct {
	code string
	err  error
}{
	{"version", ErrGuardVersion},
	{"lease_refused", ErrLeaseRefused},
	{"not_fenced", ErrNotFenced},
	{"superseded", ErrSuperseded},
	{"running", ErrRunning},
	{"not_running", ErrNotRunning},
	{"no_standby_signal", ErrNoStandby},
	{"no_watchdog", ErrNoWatchdog},
	{"frozen", ErrFrozen},
	{"not_frozen", ErrNotFrozen},
	{"bad_request", errBadRequest},
}

// codeOf gives the wire's word for err.
func codeOf(err error) string {
	for _, c := range guardCodes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "failed"
}

// remoteError is an error that the guard answered; it unwraps to the sentinel of its code, if it has one.
type remoteError struct {
	op, text string
	cause    error
}

func (e *remoteError) Error() string { return fmt.Sprintf("guard %s: %s", e.op, e.text) }
func (e *remoteError) Unwrap() error { return e.cause }

// answerError turns a refusal back into an error.
func answerError(op string, a guardAnswer) error {
	e := &remoteError{op: op, text: a.Error}
	for _, c := range guardCodes {
		if c.code == a.Code {
			e.cause = c.err
		}
	}
	return e
}
