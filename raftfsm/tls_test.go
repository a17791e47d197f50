package raftfsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// selfSigned gives both directions of mutual TLS under one certificate for 127.0.0.1.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	certs := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: certs, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		&tls.Config{Certificates: certs, RootCAs: pool, MinVersion: tls.VersionTLS13}
}

// The whole channel runs under mutual TLS; a caller without a certificate gets no answer to its hello.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	server, client := selfSigned(t)
	w := newWorld(t, time.Second, func(o *Options) { o.ServerTLS, o.ClientTLS = server, client }, "n1", "n2", "n3")
	n := w.leader()
	for _, o := range w.all() {
		if o != n {
			c, err := n.DialPeer(t.Context(), o.opt.Self)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	stranger, err := tls.Dial("tcp", n.opt.Advertise, &tls.Config{RootCAs: client.RootCAs, MinVersion: tls.VersionTLS13})
	if err != nil {
		return // refused in the handshake
	}
	defer stranger.Close()
	if err := stranger.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var a helloAnswer
	_ = writeMessage(stranger, hello{Proto: helloProto, Scope: "test", Node: "n9", UID: "x", Kind: kindPeer})
	if err := readMessage(stranger, &a); err == nil {
		t.Errorf("a caller without a certificate got an answer: %+v", a)
	}
}
