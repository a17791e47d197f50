package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"pgquorum/deploy/haproxy"
)

// demoProxy is HAProxy with the sample configuration.
type demoProxy struct {
	program string
	dir     string
	write   string // address
	read    string
	process *demoProcess // nil: not started
}

// findProxy gives nil where HAProxy is not installed. It stands in sbin, which is not in every PATH.
func (d *demo) findProxy() *demoProxy {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if program, err := exec.LookPath(name); err == nil {
			return &demoProxy{program: program, dir: filepath.Join(d.dir, "haproxy"),
				write: d.ports.address(writeOffset), read: d.ports.address(readOffset)}
		}
	}
	return nil
}

func (p *demoProxy) log() string { return filepath.Join(p.dir, "haproxy.log") }

func (p *demoProxy) start(nodes []*demoNode) error {
	text, err := p.config(nodes)
	if err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(p.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	p.process, err = startDemoProcess(p.dir, p.log(), p.program, "-db", "-f", file)
	return err
}

// config is the sample with the demo's addresses, without what needs root. All checks and timeouts are the sample's.
func (p *demoProxy) config(nodes []*demoNode) (string, error) {
	edits := []string{
		"*:5000", p.write, "*:5001", p.read,
		"/run/haproxy/admin.sock", filepath.Join(p.dir, "admin.sock"),
		"    user haproxy\n", "", "    group haproxy\n", "",
		"log /dev/log local0", "log stdout format raw local0",
	}
	for i, n := range nodes {
		sample := fmt.Sprintf("server %s 10.0.0.%d:5432\n", n.name, i+1)
		edits = append(edits, sample, fmt.Sprintf("server %s %s port %s\n", n.name, n.postgres, n.url[strings.LastIndexByte(n.url, ':')+1:]))
	}
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(haproxy.Sample, edits[i]) {
			return "", fmt.Errorf("sample haproxy.cfg: want %q in it", strings.TrimSpace(edits[i]))
		}
	}
	return strings.NewReplacer(edits...).Replace(haproxy.Sample), nil
}
