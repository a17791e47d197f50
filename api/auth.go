package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"

	"github.com/gin-gonic/gin"
)

// authority says who may call unsafe methods: the holder of the credentials, or, where none are configured, a client
// on this machine.
type authority struct {
	configured bool
	want       [sha256.Size]byte
	origins    *http.CrossOriginProtection
}

func newAuthority(username, password string) *authority {
	return &authority{
		configured: username != "" || password != "",
		want:       credentialSum(username, password),
		origins:    http.NewCrossOriginProtection(),
	}
}

// credentialSum makes credentials of any length comparable in constant time. The length in front keeps ("a", "bc")
// and ("ab", "c") apart.
func credentialSum(username, password string) [sha256.Size]byte {
	user := sha256.Sum256([]byte(username))
	pass := sha256.Sum256([]byte(password))
	return sha256.Sum256(append(user[:], pass[:]...))
}

// authorise lets a request on, or answers 401 as Patroni does, or 403.
func (s *Server) authorise(c *gin.Context) {
	if err := s.auth.check(c.Request); err != nil {
		if err.code == http.StatusUnauthorized {
			c.Header("WWW-Authenticate", `Basic realm="Patroni"`)
		}
		s.opt.Log.WarnContext(c.Request.Context(), "action not authorised",
			"method", c.Request.Method, "path", c.Request.URL.Path, "from", c.Request.RemoteAddr, "reason", err.text)
		writeError(c, err)
	}
}

func (a *authority) check(r *http.Request) *refusal {
	// A web page of another origin must not act through the browser of an operator, who is on loopback or whose
	// browser remembers the credentials.
	if a.origins.Check(r) != nil {
		return &refusal{http.StatusForbidden, "cross-origin requests are refused; nothing was changed"}
	}
	if !a.configured {
		return a.checkLocal(r)
	}
	if r.Header.Get("Authorization") == "" {
		return &refusal{http.StatusUnauthorized, "no auth header received"}
	}
	username, password, ok := r.BasicAuth()
	got := credentialSum(username, password)
	if subtle.ConstantTimeCompare(got[:], a.want[:]) != 1 || !ok {
		return &refusal{http.StatusUnauthorized, "not authenticated"}
	}
	return nil
}

// checkLocal accepts a client on this machine. A request that a proxy on this machine passed on is not one, and
// neither is a page that reached loopback under a name of its own (DNS rebinding).
func (a *authority) checkLocal(r *http.Request) *refusal {
	switch {
	case !loopback(r.RemoteAddr):
		return &refusal{http.StatusForbidden,
			"no restapi.authentication is configured on this node, so actions are accepted from loopback only; " +
				"configure a username and password, or call from the node itself; nothing was changed"}
	case r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "":
		return &refusal{http.StatusForbidden,
			"no restapi.authentication is configured on this node, and a proxy passed this request on; " +
				"configure a username and password; nothing was changed"}
	case r.Header.Get("Origin") != "" && r.Host != "localhost" && !loopback(r.Host):
		return &refusal{http.StatusForbidden,
			"no restapi.authentication is configured on this node, and a browser asked for the host " + r.Host +
				"; use 127.0.0.1, or configure a username and password; nothing was changed"}
	}
	return nil
}

// loopback says whether addr, with or without a port, is on this machine.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
