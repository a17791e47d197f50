package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// How the chaos clients behave. The patient ones wait for longer than a failover takes.
const (
	chaosPace     = 25 * time.Millisecond
	chaosPatience = 10 * time.Second
	chaosHurry    = 2 * time.Second
	chaosConnect  = time.Second
)

// chaosClient does one operation after another. It opens a session on the node that shows itself as the primary, or
// always on its own host's.
type chaosClient struct {
	name     string
	from     *Namespace
	http     *http.Client
	stick    *Host // nil: whoever is the primary
	patience time.Duration
	rng      *rand.Rand
	load     *ChaosLoad
}

// session is a connection to the primary.
type session struct {
	*pgx.Conn
	node string
}

// ChaosLoad is the clients of a run.
type ChaosLoad struct {
	Ops ChaosOps

	c       *Cluster
	sampler *Sampler
	now     func() time.Duration
	ids     atomic.Int64
	lists   listKeys
	acked   atomic.Int64
}

// work does steps until ctx ends; after one that gives false it opens another session.
func (cl *chaosClient) work(ctx context.Context, step func(context.Context, *session) bool) {
	for ctx.Err() == nil {
		s, err := cl.open(ctx)
		if err != nil {
			pauseFor(ctx, backoff)
			continue
		}
		for ctx.Err() == nil && step(ctx, s) {
			pauseFor(ctx, chaosPace)
		}
		// The server may be cut off: saying good-bye must not wait for it.
		bye, cancel := context.WithTimeout(context.Background(), pace)
		_ = s.Close(bye)
		cancel()
	}
}

// pauseFor lets a time pass, or less when ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errNoPrimary = errors.New("no node shows itself as the primary")

// open connects, and asks the node only then whether it is the primary: a Postgres that stood before the answer is the one
// that the answer is about, and rows that nobody confirmed yet are not read (S4). From then on no health check is asked.
func (cl *chaosClient) open(ctx context.Context) (*session, error) {
	h := cl.stick
	if h == nil {
		if h = cl.load.c.Host(cl.load.sampler.Serving()); h == nil {
			return nil, errNoPrimary
		}
	}
	conn, err := connectWithin(ctx, cl.from, dsn("app", "", h.Addr, 5432)+" target_session_attrs=read-write", chaosConnect)
	if err != nil {
		return nil, err
	}
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	code, _, err := get(asked, cl.http, h.Addr, "/primary")
	if err == nil && code == http.StatusOK {
		return &session{conn, h.Name}, nil
	}
	return nil, errors.Join(fmt.Errorf("%s: GET /primary: %d, %w", h.Name, code, err), conn.Close(asked))
}

// begin begins an operation.
func (cl *chaosClient) begin(ctx context.Context, s *session) (Call, context.Context, context.CancelFunc) {
	within, cancel := context.WithTimeout(ctx, cl.patience)
	return Call{ID: cl.load.ids.Add(1), Client: cl.name, Node: s.node, Start: cl.load.now()}, within, cancel
}

// end ends it and says whether the session is still good: after a refusal by the server that says only that somebody else
// was faster, or the account is empty.
func (cl *chaosClient) end(call *Call, err error, committing bool) (good bool) {
	call.End, call.Outcome = cl.load.now(), outcomeOf(err, committing)
	if err == nil {
		cl.load.acked.Add(1)
		return true
	}
	call.Err = err.Error()
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return false
	}
	return server.Severity == "ERROR" && (server.Code == "40001" || server.Code == "40P01" || server.Code == "23514")
}

// transaction runs statements, each a round trip, and commits. It says whether the commit was sent; rolled back, the
// session is ready for another one. The last round trip also asks for the timeline, which goes into the call.
func (s *session) transaction(ctx context.Context, call *Call, statements ...string) (results []*pgconn.Result, committing bool, err error) {
	for i, statement := range statements {
		if i == len(statements)-1 {
			statement += "; SELECT " + presentTimeline
		}
		more, err := s.PgConn().Exec(ctx, statement).ReadAll()
		results = append(results, more...)
		if err != nil {
			_, rerr := s.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
			return results, false, errors.Join(err, rerr)
		}
	}
	said := results[len(results)-1]
	results = results[:len(results)-1]
	if len(said.Rows) == 1 {
		call.on(string(said.Rows[0][0]))
	}
	done, err := s.PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err == nil && (len(done) != 1 || done[0].CommandTag.String() != "COMMIT") {
		return results, false, fmt.Errorf("COMMIT was answered with %v", done)
	}
	return results, true, err
}

const beginSerializable = "BEGIN ISOLATION LEVEL SERIALIZABLE"
