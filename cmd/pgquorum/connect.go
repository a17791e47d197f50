package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pgquorum/api"
	"pgquorum/config"
)

// connection says how a command finds the cluster: any one node's API is enough.
type connection struct {
	env    environment
	urls   []string
	file   string
	caFile string
}

// addFlags gives cmd the flags --url, --config and --cacert.
func (c *connection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&c.urls, "url", nil, "API `URL` of a node; may be given more than once (default: PGQUORUM_URL, else the node's file)")
	cmd.Flags().StringVarP(&c.file, "config", "c", "", "node's `FILE`, for the API's address, its user and its certificates (default: "+config.DefaultPath+", when no URL is given)")
	cmd.Flags().StringVar(&c.caFile, "cacert", "", "`FILE` of the authority that the API's certificate comes from (default: restapi.cafile of the node's file)")
}

// open makes the client. With authority, credentials that are named but cannot be read are an error.
//
// The user and password of a node's file go to a URL from elsewhere only when the file was named too: --url alone may
// name a stranger.
func (c *connection) open(authority bool) (*api.Client, error) {
	node, err := c.node()
	if err != nil {
		return nil, err
	}
	if authority && node.PasswordErr != nil {
		return nil, fmt.Errorf("restapi.authentication.password_file: %w", node.PasswordErr)
	}
	urls := c.givenURLs()
	if len(urls) == 0 {
		if node.URL == "" {
			return nil, usage("no URL: give --url, set PGQUORUM_URL, or name a node's file with --config (%s is not there)", config.DefaultPath)
		}
		urls = []string{node.URL}
	}
	for _, u := range urls {
		if err := checkURL(u); err != nil {
			return nil, err
		}
	}
	secure, err := c.tls(node)
	if err != nil {
		return nil, err
	}
	return api.NewClient(urls, api.ClientOptions{Username: node.Username, Password: node.Password, TLS: secure}), nil
}

// givenURLs are those of --url, else those of PGQUORUM_URL.
func (c *connection) givenURLs() []string {
	if len(c.urls) > 0 {
		return c.urls
	}
	for _, pair := range c.env.Env {
		if value, ok := strings.CutPrefix(pair, "PGQUORUM_URL="); ok {
			return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
		}
	}
	return nil
}

// node reads the node's file: the one that was named, or, when no URL is given, the default one if it is there. The
// environment counts in any case.
func (c *connection) node() (config.Client, error) {
	path := c.file
	if path == "" && len(c.givenURLs()) == 0 {
		path = config.DefaultPath
	}
	node, err := config.LoadClient(path, c.env.Env)
	if c.file == "" && errors.Is(err, fs.ErrNotExist) {
		return config.LoadClient("", c.env.Env)
	}
	return node, err
}

// tls gives nil where nothing was configured: the client then trusts what the system trusts.
func (c *connection) tls(node config.Client) (*tls.Config, error) {
	caFile := cmp.Or(c.caFile, node.CAFile)
	if caFile == "" && node.CertFile == "" {
		return nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("authority file: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authority file %s: want certificates in PEM, have none", caFile)
		}
	}
	if node.CertFile != "" && node.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(node.CertFile, node.KeyFile)
		switch {
		case errors.Is(err, fs.ErrPermission): // the node's key is the node's; a question needs no certificate of ours
		case err != nil:
			return nil, fmt.Errorf("certificate %s: %w", node.CertFile, err)
		default:
			secure.Certificates = []tls.Certificate{pair}
		}
	}
	return secure, nil
}

func checkURL(text string) error {
	full := text
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usage("URL %q: want one such as http://10.0.0.1:8008", redacted(text))
	}
	if u.User != nil {
		return usage("URL %q holds a user: a command line is no place for a password; set PGQUORUM_RESTAPI_AUTHENTICATION_USERNAME and _PASSWORD or _PASSWORD_FILE, or name a node's file with --config", redacted(text))
	}
	return nil
}

// redacted takes out what stands before an @.
func redacted(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return "***" + text[i:]
	}
	return text
}

// withExitCode gives the client's errors their exit codes.
func withExitCode(err error) error {
	switch {
	case errors.Is(err, api.ErrNoNode):
		return &exitError{code: exitNobody, err: err}
	case errors.Is(err, api.ErrOutcomeUnknown):
		return &exitError{code: exitUnknown, err: err}
	}
	return err
}
