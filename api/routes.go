package api

import (
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/gin-gonic/gin"
)

// document is a GET route that answers 200 with what the node knows.
type document struct {
	path   string
	handle gin.HandlerFunc
}

func (s *Server) documents() []document {
	return []document{
		{"/patroni", s.getStatus},
		{"/status", s.getStatus},
		{"/cluster", s.getCluster},
		{"/history", s.getHistory},
		{"/events", s.getEvents},
		{"/config", s.getConfig},
		{"/metrics", gin.WrapH(s.metrics)},
	}
}

// routes builds the router. Every safe route answers GET, HEAD and OPTIONS with one code.
func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash = false // health checkers follow no redirect
	r.RedirectFixedPath = false
	r.ForwardedByClientIP = false // the peer's address decides about loopback, never a header
	r.Use(s.recover)
	for i := range checks {
		s.safe(r, checks[i].path, s.healthHandler(&checks[i]))
	}
	for _, d := range s.documents() {
		s.safe(r, d.path, bodyless(d.handle))
	}
	r.POST("/switchover", s.authorise, s.action(s.postSwitchover))
	r.DELETE("/switchover", s.authorise, s.action(s.deleteSwitchover))
	r.NoRoute(s.other(r))
	return r
}

func (s *Server) safe(r *gin.Engine, path string, h gin.HandlerFunc) {
	r.GET(path, h)
	r.HEAD(path, h)
	r.OPTIONS(path, h)
}

// bodyless answers OPTIONS like HEAD: net/http drops the body of HEAD only.
func bodyless(h gin.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Request.Method == http.MethodOptions {
			c.Status(http.StatusOK)
			return
		}
		c.Header("X-Content-Type-Options", "nosniff")
		c.Header("Cache-Control", "no-store")
		h(c)
	}
}

// other answers what no route names. Like Patroni it routes by the first segment of the path, however many slashes
// stand before it ("//leader" is what a checker sends whose configured URL ends in a slash), answers an unknown safe
// path with 503 and the status, and an unknown action with 501.
func (s *Server) other(r *gin.Engine) gin.HandlerFunc {
	known := make(map[string]bool)
	for _, route := range r.Routes() {
		known[route.Method+route.Path] = true
	}
	return func(c *gin.Context) {
		if path := firstSegment(c.Request.URL.Path); path != c.Request.URL.Path && known[c.Request.Method+path] {
			c.Request.URL.Path = path
			r.HandleContext(c)
			return
		}
		switch c.Request.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			s.answerHealth(c, s.probe(c.Request), false, true)
		default:
			s.authorise(c)
			if !c.IsAborted() {
				writeError(c, unsupported(c.Request.Method, c.Request.URL.Path))
			}
		}
	}
}

func firstSegment(path string) string {
	path = strings.TrimLeft(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		path = path[:i]
	}
	return "/" + path
}

// recover answers 500 to a request whose handler panicked and logs it: the API's defects do not end the agent.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { // net/http's own way to cut a connection
			panic(p)
		}
		s.opt.Log.ErrorContext(c.Request.Context(), "api handler panicked",
			"method", c.Request.Method, "path", c.Request.URL.Path, "reason", p, "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			c.AbortWithStatus(http.StatusInternalServerError)
		}
	}()
	c.Next()
}
