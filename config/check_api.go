package config

import (
	"os"
	"strings"
)

func (c *Config) checkRestAPI(found *findings) {
	host, _, ok := c.address(found, "restapi.listen", c.RestAPI.Listen, false)
	c.connectAddress(found, "restapi", c.RestAPI.Listen, c.RestAPI.ConnectAddress)
	c.checkRestTLS(found)
	c.checkAllowlist(found)
	auth := c.RestAPI.Authentication
	password := auth.Password != "" || auth.PasswordFile != ""
	switch at := c.places.of("restapi.authentication"); {
	case auth.Username != "" && !password:
		found.refuse(at, "restapi.authentication.password", "required beside username: password or password_file")
	case auth.Username == "" && password:
		found.refuse(at, "restapi.authentication.username", "required beside the password")
	case auth.Username == "" && ok && !isLoopback(host):
		found.warn(c.places.of("restapi.listen"), "restapi.authentication", "no credentials: calls that change something are accepted from loopback only")
	case auth.Username != "" && ok && !isLoopback(host) && c.RestAPI.CertFile == "":
		found.warn(c.places.of("restapi.listen"), "restapi.certfile", "no TLS: the password travels in clear text")
	}
}

// connectAddress checks the address under which others reach a listener.
func (c *Config) connectAddress(found *findings, section, listen, address string) {
	key := section + ".connect_address"
	at := c.places.of(key)
	if !c.places.given(key) {
		at = c.places.of(section + ".listen")
	}
	if address == "" {
		found.refuse(at, key, "required, because %s.listen %q is no address that others can connect to", section, listen)
		return
	}
	host, _, ok := c.address(found, key, address, true)
	raft, _, err := splitAddress(c.Raft.Advertise)
	if ok && err == nil && isLoopback(host) && !isLoopback(raft) {
		found.refuse(at, key, "%s is loopback, while raft.advertise is %s: the other nodes cannot reach it", address, c.Raft.Advertise)
	}
}

func (c *Config) checkRestTLS(found *findings) {
	r := c.RestAPI
	c.oneOf(found, "restapi.verify_client", r.VerifyClient, "none", "optional", "required")
	c.RestAPI.VerifyClient = strings.ToLower(r.VerifyClient)
	at := c.places.of("restapi")
	switch {
	case r.CertFile == "" && (r.KeyFile != "" || r.CAFile != ""):
		found.refuse(at, "restapi.certfile", "required beside keyfile or cafile")
	case r.CertFile != "" && r.KeyFile == "":
		found.refuse(at, "restapi.keyfile", "required beside certfile")
	case c.RestAPI.VerifyClient != "none" && r.CAFile == "":
		found.refuse(at, "restapi.cafile", "required with verify_client: %s", r.VerifyClient)
	}
	for _, f := range []struct{ key, value string }{{"certfile", r.CertFile}, {"keyfile", r.KeyFile}, {"cafile", r.CAFile}} {
		if f.value != "" {
			c.readable(found, "restapi."+f.key, f.value)
		}
	}
}

// checkAllowlist: a list that nobody heeds would be worse than none.
func (c *Config) checkAllowlist(found *findings) {
	if len(c.RestAPI.Allowlist) > 0 {
		found.refuse(c.places.of("restapi.allowlist"), "restapi.allowlist", "is not in this version: use restapi.authentication, and a packet filter for the port")
	}
}

// readable refuses a file that the agent cannot open.
func (c *Config) readable(found *findings, key, path string) {
	f, err := os.Open(path)
	if err != nil {
		found.refuseBecause(c.places.of(key), key, err, "cannot be read")
		return
	}
	f.Close()
}
