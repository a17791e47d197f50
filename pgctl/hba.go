package pgctl

import (
	"os/user"
	"strings"
)

// hbaFile is written whole by pgquorum: an operator's lines go into the config.
const hbaFile = "pg_hba.conf"

// hbaText gives pg_hba.conf. The order is the meaning, since the first line that fits decides:
//
//  1. The agent's own way in: the superuser over the socket. Where the operating system user that runs Postgres (and the
//     agent) bears the superuser's name, the kernel vouches for it (peer): no password that could be wrong, and the
//     fastest log-in. Else with its password; else, with none set, on trust, and then the socket is readable and
//     writable by its owner only (socketPermissions), since the line would let in every local user.
//  2. The replication and rewind users from other nodes: with scram-sha-256 if they have a password, else on trust,
//     which an operator has chosen by giving none.
//  3. The operator's lines: they cannot lock the agent or the standbys out, which come first.
//  4. What remains: local users as themselves (peer), everybody else with a password.
func (p *Postgres) hbaText(operator []string) string {
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, "\t") + "\n") }
	b.WriteString("# Written by pgquorum; do not edit. Lines of your own go into postgresql.pg_hba.\n")
	line("local", "all", hbaName(p.opt.Superuser.Username), p.socketMethod())
	if u := p.opt.Replication; u.Username != "" {
		line("local", "replication", hbaName(u.Username), hostMethod(u))
		line("host", "replication", hbaName(u.Username), "all", hostMethod(u))
	}
	if u := p.opt.Rewind; u.Username != "" && u.Username != p.opt.Superuser.Username {
		line("host", "all", hbaName(u.Username), "all", hostMethod(u))
	}
	for _, l := range operator {
		b.WriteString(strings.TrimRight(l, "\r\n") + "\n")
	}
	line("local", "all", "all", "peer")
	line("host", "all", "all", "all", "scram-sha-256")
	return b.String()
}

// socketMethod is how the agent logs in over the socket.
func (p *Postgres) socketMethod() string {
	if u, err := user.Current(); err == nil && u.Username == p.opt.Superuser.Username {
		return "peer"
	}
	if p.opt.Superuser.Password != "" {
		return "scram-sha-256"
	}
	return "trust"
}

// socketPermissions is unix_socket_permissions: closed to others where the socket trusts whoever can open it.
func (p *Postgres) socketPermissions() string {
	if p.socketMethod() == "trust" {
		return "0700"
	}
	return "0777"
}

// hostMethod is how a user comes in from another node.
func hostMethod(u Credentials) string {
	if u.Password == "" {
		return "trust"
	}
	return "scram-sha-256"
}

// hbaName quotes a name, so that none is taken for a keyword such as all. Source: pg_hba.conf, PostgreSQL 15.
func hbaName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
