package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// refusal is an answer other than success: an HTTP code and a text that says what was asked, what stands and what to do.
type refusal struct {
	code int
	text string
}

// Error gives the text.
func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

func unsupported(method, path string) error {
	return refuse(http.StatusNotImplemented,
		"%s %s is not supported by this version; the actions it has are POST /switchover and DELETE /switchover; nothing was changed", method, path)
}

// fromResult maps the agent's answer to an action: nil for success (2xx), else a refusal. The agent speaks in HTTP
// codes already: 200 done, 400 asked wrongly, 412 not possible as things stand, 503 failed, 504 outcome unknown. A code
// that is none is a defect of the agent and becomes 500, with its text.
func fromResult(res cluster.ActionResult) error {
	switch {
	case res.Code >= 200 && res.Code < 300:
		return nil
	case res.Code >= 400 && res.Code < 600:
		return &refusal{code: res.Code, text: res.Text}
	}
	return refuse(http.StatusInternalServerError, "the action ended with code %d, which is none: %s", res.Code, res.Text)
}

// writeError is the one place that turns an error into an answer.
func writeError(c *gin.Context, err error) {
	var (
		r   *refusal
		big *http.MaxBytesError
	)
	switch {
	case errors.As(err, &r):
		writeText(c, r.code, r.text)
	case errors.As(err, &big):
		writeText(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("request body: more than %d bytes; nothing was changed", big.Limit))
	default:
		writeText(c, http.StatusInternalServerError, err.Error())
	}
}

// writeText answers in plain text. Patroni says text/html; a text that repeats what a client sent must not be HTML.
func writeText(c *gin.Context, code int, text string) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Data(code, "text/plain; charset=utf-8", []byte(text))
	c.Abort()
}

// action makes a handler of a function that answers an error where it refuses.
func (s *Server) action(do func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
		err := do(c)
		if err == nil {
			return
		}
		s.opt.Log.InfoContext(c.Request.Context(), "action refused",
			"method", c.Request.Method, "path", c.Request.URL.Path, "from", c.Request.RemoteAddr, "reason", err.Error())
		writeError(c, err)
	}
}
