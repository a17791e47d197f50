package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"pgquorum/cluster"
)

// Source is what the API knows of its node. The first three answer from memory and never wait.
type Source interface {
	Snapshot() *cluster.Snapshot // never nil
	Lease() cluster.Lease        // the newest lease
	Now() cluster.Instant
	Switchover(ctx context.Context, req cluster.SwitchoverRequest) cluster.ActionResult
	CheckSwitchover(ctx context.Context, req cluster.SwitchoverRequest) cluster.ActionResult
}

// Options say whom the API speaks for and who may call its actions.
type Options struct {
	Source   Source
	Scope    string
	Name     string
	Username string // with Password: the credentials of unsafe methods; both empty: loopback only
	Password string
	Version  string      // pgquorum's own
	TLS      *tls.Config // nil: plain HTTP
	Log      *slog.Logger
	Registry *prometheus.Registry // nil: one of its own. The API adds its collectors to it
}

// PatroniVersion is the version of Patroni whose API this is.
const PatroniVersion = "4.1.4"

// The bounds on a client. A health checker needs far less of each.
const (
	maxBody       = 1 << 20
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 60 * time.Second
	stopTimeout   = 5 * time.Second
	maxConns      = 1024
	maxConnsPerIP = 256
)

// Server answers the API's requests.
type Server struct {
	opt     Options
	auth    *authority
	router  *gin.Engine
	metrics http.Handler
	wall    func() time.Time // for display only, never for the lease
	status  atomic.Pointer[cachedStatus]
}

// New builds the API. It panics on a Registry that already holds the API's metrics: that is an error in the boot order.
func New(opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Registry == nil {
		opt.Registry = prometheus.NewRegistry()
	}
	s := &Server{opt: opt, auth: newAuthority(opt.Username, opt.Password), wall: time.Now}
	s.metrics = s.newMetrics(opt.Registry)
	s.router = s.routes()
	return s
}

// Handler gives the API without a listener.
func (s *Server) Handler() http.Handler { return s.router }

// Serve answers on ln until ctx ends, then lets running requests finish for 5 s. It closes ln. It returns nil when
// ctx ended, else what stopped it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ln = newLimitListener(ln, maxConns, maxConnsPerIP)
	if s.opt.TLS != nil {
		ln = tls.NewListener(ln, s.opt.TLS)
	}
	srv := &http.Server{
		Handler:           s.router,
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		// A port scanner's broken handshake is not worth a warning.
		ErrorLog: slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.opt.Log.WarnContext(ctx, "api requests cut off", "reason", err, "waited", stopTimeout)
		if err := srv.Close(); err != nil {
			s.opt.Log.WarnContext(ctx, "api listener not closed", "reason", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
