package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"pgquorum/config"
)

// raftTLS gives mutual TLS between nodes: both sides show a certificate of raft.tls.cafile. Both nil: not configured.
func raftTLS(c config.TLS) (server, client *tls.Config, err error) {
	if !c.Enabled() {
		return nil, nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("raft.tls: %w", err)
	}
	pool, err := authority("raft.tls.cafile", c.CAFile)
	if err != nil {
		return nil, nil, err
	}
	server = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	client = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS12}
	return server, client, nil
}

// apiTLS gives the API's TLS; nil: plain HTTP.
func apiTLS(c config.RestAPI) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("restapi.certfile: %w", err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.VerifyClient == "" || c.VerifyClient == "none" {
		return t, nil
	}
	if t.ClientCAs, err = authority("restapi.cafile", c.CAFile); err != nil {
		return nil, err
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	if c.VerifyClient == "required" {
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

func authority(key, path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate", key, path)
	}
	return pool, nil
}
