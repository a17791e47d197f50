package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// netnsDir is where ip(8) keeps named network namespaces.
const netnsDir = "/run/netns"

// subnet is the network of every cluster: each has a bridge of its own, in a namespace of its own.
const subnet = "10.77.0.0/24"

// Network is the bridge of one cluster and the wires that hang on it. Cuts are rules on the bridge: both ends keep their
// link and their addresses and notice nothing, as with a broken switch.
type Network struct {
	name string // prefix of the namespaces
	sw   string // the bridge's namespace

	mu     sync.Mutex
	ports  []string
	cut    map[wire]bool
	layers map[string][]Drop
}

// Drop is a wire that drops packets: some of a hundred, or all.
type Drop struct {
	From, To string
	Percent  int
}

// wire is one direction between two ports.
type wire struct{ from, to string }

// NewNetwork makes a bridge under the name.
func NewNetwork(name string) (*Network, error) {
	n := &Network{name: name, sw: name + "-sw", cut: map[wire]bool{}, layers: map[string][]Drop{}}
	err := steps(
		[]string{"ip", "netns", "add", n.sw},
		[]string{"ip", "-n", n.sw, "link", "add", "br0", "type", "bridge"},
		[]string{"ip", "-n", n.sw, "link", "set", "br0", "up"},
	)
	return n, err
}

func steps(commands ...[]string) error {
	for _, c := range commands {
		if err := command(c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// Attach makes a namespace with one wire to the bridge and the address 10.77.0.last.
func (n *Network) Attach(port string, last int) (*Namespace, error) {
	ns := &Namespace{name: n.name + "-" + port, Addr: fmt.Sprintf("10.77.0.%d", last)}
	err := steps(
		[]string{"ip", "netns", "add", ns.name},
		[]string{"ip", "-n", n.sw, "link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", ns.name},
		[]string{"ip", "-n", n.sw, "link", "set", "dev", port, "master", "br0", "up"},
		[]string{"ip", "-n", ns.name, "addr", "add", ns.Addr + "/24", "dev", "eth0"},
		[]string{"ip", "-n", ns.name, "link", "set", "lo", "up"},
		[]string{"ip", "-n", ns.name, "link", "set", "eth0", "up"},
	)
	if err != nil {
		return nil, err
	}
	if ns.fd, err = os.Open(filepath.Join(netnsDir, ns.name)); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports = append(n.ports, port)
	return ns, nil
}

// Cut takes a port off the network, in both directions.
func (n *Network) Cut(port string) error {
	return n.change(func() { n.each(port, func(in, out wire) { n.cut[in], n.cut[out] = true, true }) })
}

// CutIn lets nothing reach a port; what it sends still arrives.
func (n *Network) CutIn(port string) error {
	return n.change(func() { n.each(port, func(in, _ wire) { n.cut[in] = true }) })
}

// CutOut lets nothing leave a port; what is sent to it still arrives.
func (n *Network) CutOut(port string) error {
	return n.change(func() { n.each(port, func(_, out wire) { n.cut[out] = true }) })
}

// CutBetween separates two ports from each other only.
func (n *Network) CutBetween(a, b string) error {
	return n.change(func() { n.cut[wire{a, b}], n.cut[wire{b, a}] = true, true })
}

// Heal undoes every cut of a port.
func (n *Network) Heal(port string) error {
	return n.change(func() { n.each(port, func(in, out wire) { delete(n.cut, in); delete(n.cut, out) }) })
}

// Lay puts drops in force under a name of their own, beside the cuts and whatever other layers there are: faults that
// overlap end each by itself. Lift ends them; no drops is as good.
func (n *Network) Lay(layer string, drops ...Drop) error {
	return n.change(func() { n.layers[layer] = drops })
}

// Lift removes a layer.
func (n *Network) Lift(layer string) error {
	return n.change(func() { delete(n.layers, layer) })
}

func (n *Network) each(port string, f func(in, out wire)) {
	for _, other := range n.ports {
		if other != port {
			f(wire{other, port}, wire{port, other})
		}
	}
}

// change applies f and puts all cuts in force in one step.
func (n *Network) change(f func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	return commandInput(n.ruleset(), "ip", "netns", "exec", n.sw, "nft", "-f", "-")
}

// ruleset is the whole table: nft replaces the old one with it atomically. A port that is slowed down hangs on the bridge
// by another interface.
func (n *Network) ruleset() string {
	var rules []string
	drop := func(from, to, condition string) {
		rules = append(rules, fmt.Sprintf("    iifname { %q, %q } oifname { %q, %q } %sdrop", from, slowed(from), to, slowed(to), condition))
	}
	for w := range n.cut {
		drop(w.from, w.to, "")
	}
	for _, layer := range n.layers {
		for _, d := range layer {
			condition := ""
			if d.Percent < 100 {
				condition = fmt.Sprintf("numgen random mod 100 < %d ", d.Percent)
			}
			drop(d.From, d.To, condition)
		}
	}
	slices.Sort(rules)
	return "table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {\n  chain forward {\n" +
		"    type filter hook forward priority 0;\n" + strings.Join(rules, "\n") + "\n  }\n}\n"
}

// Namespace is a network namespace with one address.
type Namespace struct {
	Addr string
	name string
	fd   *os.File
}

// Do runs f with the calling thread inside the namespace: sockets opened and processes started by f belong to it.
func (ns *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(ns.fd.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: %w", ns.name, err)
	}
	ferr := f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(ferr, err) // the thread stays locked, so that it ends with its goroutine and is not used again
	}
	runtime.UnlockOSThread()
	return ferr
}

// Dial opens a connection from inside the namespace.
func (ns *Namespace) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = ns.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Close lets go of the namespace; the sweep removes it.
func (ns *Namespace) Close() error { return ns.fd.Close() }
