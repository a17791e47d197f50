package main

import (
	"context"
	"fmt"
	"strings"

	"pgquorum/api"
)

// actionClient is a client with the patience that an action needs.
func (d *demo) actionClient(n *demoNode) *api.Client {
	return api.NewClient([]string{n.url}, api.ClientOptions{Username: demoAPIUser, Password: d.secrets.api})
}

// linger says how to reach the cluster, and leaves it running until ctx ends.
func (d *demo) linger(ctx context.Context) {
	var hosts, ports, urls []string
	for _, n := range d.nodes {
		hosts, ports, urls = append(hosts, "127.0.0.1"), append(ports, fmt.Sprint(n.pgPort)), append(urls, "--url "+n.url)
	}
	connect := func(host, port, rest string) string {
		return fmt.Sprintf("  psql 'host=%s port=%s user=%s dbname=%s password=%s%s'\n", host, port, appName, appName, d.secrets.app, rest)
	}
	file := d.nodes[0].file()
	var b strings.Builder
	b.WriteString("\nThe cluster goes on running. Connect to the primary, wherever it is:\n")
	b.WriteString(connect(strings.Join(hosts, ","), strings.Join(ports, ","), " target_session_attrs=read-write"))
	if d.proxy != nil {
		b.WriteString("through HAProxy (writes; reads):\n")
		b.WriteString(connect("127.0.0.1", fmt.Sprint(d.ports.base+writeOffset), ""))
		b.WriteString(connect("127.0.0.1", fmt.Sprint(d.ports.base+readOffset), ""))
	}
	fmt.Fprintf(&b, "Watch it:\n  %s list -W %s\n", d.exe, strings.Join(urls, " "))
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  curl -s %s/patroni\n", n.url)
	}
	b.WriteString("Try:\n")
	fmt.Fprintf(&b, "  %s switchover -c %s\n", d.exe, file)
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  kill -9 $(head -1 %s/postmaster.pid)    # Postgres of %s\n", n.dataDir(), n.name)
	}
	b.WriteString("Logs:\n")
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  %s\n", n.log())
	}
	b.WriteString("Ctrl-C ends it.\n")
	d.story.print(b.String())
	<-ctx.Done()
}
