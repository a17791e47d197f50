package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// sampleConfig is the configuration that users are given.
const sampleConfig = "../deploy/haproxy/haproxy.cfg"

// The sample's ports: writes go to the primary, reads to standbys.
const (
	writePort = 5000
	readPort  = 5001
)

// HAProxy is the real one, on a host of its own, with the sample configuration.
type HAProxy struct {
	Addr string
	Dir  string

	where   Where
	ns      *Namespace
	process *Process
}

func newHAProxy(c *Cluster, cgroup string) (*HAProxy, error) {
	ns, err := c.Net.Attach("lb", 100)
	if err != nil {
		return nil, err
	}
	p := &HAProxy{Addr: ns.Addr, Dir: filepath.Join(c.dir, "lb"), ns: ns}
	own := filepath.Join(cgroup, "lb")
	for _, d := range []string{p.Dir, own} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	p.where = Where{Network: ns, Cgroup: own, Dir: p.Dir, Log: filepath.Join(p.Dir, "haproxy.log")}
	sample, err := os.ReadFile(sampleConfig)
	if err != nil {
		return nil, err
	}
	text, err := adaptConfig(string(sample), c.Nodes())
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(p.config(), []byte(text), 0o644)
}

func (p *HAProxy) config() string { return filepath.Join(p.Dir, "haproxy.cfg") }

// serverLine is a server of the sample: its name is the node's.
var serverLine = regexp.MustCompile(`(?m)^(\s*server\s+)(n\d+)(\s+)\S+:(\d+)`)

// statsLine is the admin socket of the sample: one path on the machine, so that clusters would share it.
var statsLine = regexp.MustCompile(`(?m)^\s*stats socket .*$`)

// adaptConfig puts the hosts' addresses into the sample. Nothing else is changed, so that what is tested is what users
// get; only the admin socket goes, a path that all clusters of the machine would share.
func adaptConfig(sample string, nodes []*Host) (string, error) {
	var unknown []string
	text := serverLine.ReplaceAllStringFunc(sample, func(line string) string {
		m := serverLine.FindStringSubmatch(line)
		for _, h := range nodes {
			if h.Name == m[2] {
				return m[1] + m[2] + m[3] + h.Addr + ":" + m[4]
			}
		}
		unknown = append(unknown, m[2])
		return line
	})
	if len(unknown) > 0 || strings.Count(text, nodes[0].Addr+":") == 0 {
		return "", fmt.Errorf("%s: want server lines of the nodes, have unknown %v", sampleConfig, unknown)
	}
	return statsLine.ReplaceAllString(text, ""), nil
}

// Start starts HAProxy in the foreground.
func (p *HAProxy) Start() (err error) {
	p.process, err = p.where.Start("haproxy", "-db", "-f", p.config())
	return err
}
