package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"pgquorum/cluster"
)

// ErrNoNode says that none of the URLs gave an answer, and that nothing was changed.
var ErrNoNode = errors.New("no node answers")

// ErrOutcomeUnknown says that an action was sent and its answer did not come: it may have been done.
var ErrOutcomeUnknown = errors.New("outcome unknown")

// Refused is a node's answer that an action was not done, or that a question has no answer.
type Refused struct {
	URL  string
	Code int // HTTP
	Text string
}

// Error gives the node's own words.
func (r *Refused) Error() string { return fmt.Sprintf("%s: %s (HTTP %d)", r.URL, r.Text, r.Code) }

// ClientOptions say how to reach the nodes; zero values give defaults.
type ClientOptions struct {
	Username, Password string
	TLS                *tls.Config
	Timeout            time.Duration // of one question to one node; default 3 s
	ActionTimeout      time.Duration // of one action; default 6 minutes, more than a node gives itself with its defaults
}

// maxAnswer bounds what the client reads.
const maxAnswer = 64 << 20

// Client asks a cluster's nodes: each question goes to the URLs in turn until one answers.
type Client struct {
	urls []string
	opt  ClientOptions
	http *http.Client
	send *http.Client // for actions: a fresh connection each, so that an action is never sent into a dying one
}

// NewClient makes a client of API URLs such as http://10.0.0.1:8008; "10.0.0.1:8008" and a path such as /patroni do too.
func NewClient(urls []string, opt ClientOptions) *Client {
	if opt.Timeout == 0 {
		opt.Timeout = 3 * time.Second
	}
	if opt.ActionTimeout == 0 {
		opt.ActionTimeout = 6 * time.Minute
	}
	c := &Client{opt: opt, http: newHTTPClient(opt, false), send: newHTTPClient(opt, true)}
	for _, u := range urls {
		c.urls = append(c.urls, baseURL(u, opt.TLS != nil))
	}
	return c
}

// newHTTPClient: no proxy (a proxy knows nothing of a database's network) and no redirects (no node sends one).
func newHTTPClient(opt ClientOptions, fresh bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               nil,
			DialContext:         (&net.Dialer{Timeout: opt.Timeout}).DialContext,
			TLSClientConfig:     opt.TLS,
			TLSHandshakeTimeout: opt.Timeout,
			DisableKeepAlives:   fresh,
			MaxIdleConnsPerHost: 2,
			IdleConnTimeout:     idleTimeout / 2, // under the server's, so that it never closes a connection in use
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func baseURL(u string, secure bool) string {
	if !strings.Contains(u, "://") {
		scheme := "http://"
		if secure {
			scheme = "https://"
		}
		u = scheme + u
	}
	parsed, err := url.Parse(u)
	if err != nil {
		return u // asking it gives the error, with the URL in it
	}
	return parsed.Scheme + "://" + parsed.Host
}

// Close ends idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.send.CloseIdleConnections()
}

// Cluster asks for the members.
func (c *Client) Cluster(ctx context.Context) (*ClusterView, error) {
	return ask[ClusterView](ctx, c, "/cluster")
}

// Patroni asks the first node that answers for its status.
func (c *Client) Patroni(ctx context.Context) (*Status, error) {
	return ask[Status](ctx, c, "/patroni")
}

// Config asks for the dynamic configuration.
func (c *Client) Config(ctx context.Context) (*DynamicConfig, error) {
	return ask[DynamicConfig](ctx, c, "/config")
}

// History asks for the changes of timeline, oldest first.
func (c *Client) History(ctx context.Context) ([]HistoryLine, error) {
	lines, err := ask[[]HistoryLine](ctx, c, "/history")
	if err != nil {
		return nil, err
	}
	return *lines, nil
}

// Events asks for the events after id since (0: all), in order.
func (c *Client) Events(ctx context.Context, since uint64) ([]cluster.Event, error) {
	events, err := ask[[]cluster.Event](ctx, c, fmt.Sprintf("/events?since=%d", since))
	if err != nil {
		return nil, err
	}
	return *events, nil
}

// Health gives the code of a health check such as "/primary" or "/replica?lag=1MB" on the first node that answers.
func (c *Client) Health(ctx context.Context, path string) (code int, err error) {
	err = c.eachURL(ctx, func(ctx context.Context, base string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, base+path, nil)
		if err != nil {
			return err
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		code = resp.StatusCode
		return resp.Body.Close()
	})
	return code, err
}

// Switchover asks for a switchover, or with req.DryRun what one would do. The error is *Refused when a node refused it
// or it failed, ErrNoNode when no node took it, ErrOutcomeUnknown when it was sent and no answer came. Once a request
// may have reached a node it is not sent to another.
func (c *Client) Switchover(ctx context.Context, req cluster.SwitchoverRequest) (cluster.ActionResult, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return cluster.ActionResult{}, fmt.Errorf("switchover request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.ActionTimeout)
	defer cancel()
	var failed []error
	for _, base := range c.urls {
		res, sent, err := c.act(ctx, base, "/switchover", body)
		switch {
		case err == nil:
			return res, nil
		case sent && !isRefused(err):
			return cluster.ActionResult{}, fmt.Errorf("switchover sent to %s: %w: %w", base, ErrOutcomeUnknown, err)
		case isRefused(err):
			return res, err
		}
		failed = append(failed, err)
	}
	return cluster.ActionResult{}, noNode(failed)
}

func isRefused(err error) bool {
	var r *Refused
	return errors.As(err, &r)
}

// act posts an action. sent says that a connection stood, so that the node may have got it.
func (c *Client) act(ctx context.Context, base, path string, body []byte) (res cluster.ActionResult, sent bool, err error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return res, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.opt.Username != "" || c.opt.Password != "" {
		req.SetBasicAuth(c.opt.Username, c.opt.Password)
	}
	resp, err := c.send.Do(req)
	if err != nil {
		return res, connected.Load(), err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return res, true, fmt.Errorf("answer of %s: %w", base, err)
	}
	res = cluster.ActionResult{Code: resp.StatusCode, Text: string(text), Leader: cluster.NodeID(resp.Header.Get(leaderHeader))}
	switch {
	case resp.StatusCode == http.StatusGatewayTimeout: // the node passed it on and does not know either
		return res, true, errors.New(res.Text)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return res, true, &Refused{URL: base, Code: resp.StatusCode, Text: strings.TrimSpace(res.Text)}
	}
	return res, true, nil
}

// ask gets a JSON document from the first node that answers with one.
func ask[T any](ctx context.Context, c *Client, path string) (*T, error) {
	var out T
	err := c.eachURL(ctx, func(ctx context.Context, base string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return err
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		switch {
		case err != nil:
			return fmt.Errorf("answer of %s%s: %w", base, path, err)
		case resp.StatusCode != http.StatusOK:
			return &Refused{URL: base, Code: resp.StatusCode, Text: strings.TrimSpace(string(body))}
		}
		out = *new(T) // nothing of another node's broken answer
		if err := json.Unmarshal(body, &out); err != nil {
			return fmt.Errorf("answer of %s%s: %w", base, path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// eachURL tries the URLs in turn. A refusal is an answer and ends it; anything else goes on to the next.
func (c *Client) eachURL(ctx context.Context, try func(context.Context, string) error) error {
	var failed []error
	for _, base := range c.urls {
		one, cancel := context.WithTimeout(ctx, c.opt.Timeout)
		err := try(one, base)
		cancel()
		if err == nil || isRefused(err) {
			return err
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return noNode(failed)
}

func noNode(failed []error) error {
	if len(failed) == 0 {
		return fmt.Errorf("no URL is given: %w", ErrNoNode)
	}
	return fmt.Errorf("%w: %w", ErrNoNode, errors.Join(failed...))
}
