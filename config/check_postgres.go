package config

import (
	"path/filepath"
	"slices"
	"strings"
)

func (c *Config) checkPostgres(found *findings) {
	c.address(found, "postgresql.listen", c.PostgreSQL.Listen, false)
	c.connectAddress(found, "postgresql", c.PostgreSQL.Listen, c.PostgreSQL.ConnectAddress)
	c.checkSocketDir(found)
}

// maxSocketPath is sun_path of sockaddr_un without its end, in bytes. Source: unix(7).
const maxSocketPath = 107

func (c *Config) checkSocketDir(found *findings) {
	dir, key := c.SocketDir(), "postgresql.parameters."+socketParameter
	given := c.PostgreSQL.Parameters[socketParameter] != ""
	if !given {
		key = "raft.data_dir"
	}
	_, port, err := c.PostgreSQL.ListenHostPort()
	switch path := filepath.Join(dir, ".s.PGSQL."+itoa(port)); {
	case given && !filepath.IsAbs(dir):
		found.refuse(c.places.of(key), key, "want an absolute directory first, have %q", dir)
	case err == nil && len(path) > maxSocketPath:
		found.refuse(c.places.of(key), key, "PostgreSQL's socket %s would have a name of %d bytes, and %d is the most; choose a shorter directory", path, len(path), maxSocketPath)
	}
}

type pgUser struct {
	role string
	Credentials
}

func (c *Config) users() []pgUser {
	u := c.PostgreSQL.Authentication
	return []pgUser{{"superuser", u.Superuser}, {"replication", u.Replication}, {"rewind", u.Rewind}}
}

// checkUsers wants passwords for all users, which makes pg_hba ask for scram-sha-256, or for none.
func (c *Config) checkUsers(found *findings) {
	const section = "postgresql.authentication"
	var with, without []string
	roles := map[string]string{}
	for _, u := range c.users() {
		key := join(section, u.role)
		if u.Password != "" || u.PasswordFile != "" { // a file that could not be read was named already
			with = append(with, u.role)
		} else {
			without = append(without, u.role)
		}
		switch other, clash := roles[u.Username]; {
		case u.Username == "" || strings.ContainsAny(u.Username, "\x00\r\n\""):
			found.refuse(c.places.of(key), key+".username", "want a user name without quotes and line ends, have %q", u.Username)
		case clash && other != "superuser": // rewinding as the superuser is Patroni's old habit; replicating as another is a mistake
			found.refuse(c.places.of(key), key+".username", "%q is the %s user already", u.Username, other)
		}
		roles[u.Username] = u.role
	}
	at := c.places.of(section)
	if len(with) > 0 && len(without) > 0 {
		found.refuse(at, section, "want a password for every user (scram-sha-256) or for none; %s has one, %s has none", strings.Join(with, " and "), strings.Join(without, " and "))
		return
	}
	if len(with) > 0 {
		return
	}
	c.checkScramLines(found)
	if hosts, _, err := splitAddress(c.PostgreSQL.Listen); err == nil && !allLoopback(hosts) {
		found.warn(at, section, "no passwords: whoever reaches %s may copy the database as %q", c.PostgreSQL.Listen, c.PostgreSQL.Authentication.Replication.Username)
	}
}

// checkScramLines refuses lines of pg_hba that would ask an agent's user for the password that it does not have.
func (c *Config) checkScramLines(found *findings) {
	for _, set := range []struct {
		key   string
		lines []string
	}{{"postgresql.pg_hba", c.PostgreSQL.PgHBA}, {"bootstrap.dcs.postgresql.pg_hba", c.Bootstrap.DCS.PostgreSQL.PgHBA}} {
		for _, line := range set.lines {
			if user := c.askedForPassword(line); user != "" {
				found.refuse(c.places.of(set.key), set.key, "the line %q asks %q for a password, and postgresql.authentication gives none", line, user)
			}
		}
	}
}

// askedForPassword gives the agent's user that a pg_hba line would ask for a password, by the user and database columns
// alone. Source: PostgreSQL 15, "The pg_hba.conf File".
func (c *Config) askedForPassword(line string) string {
	line, _, _ = strings.Cut(line, "#")
	fields := strings.Fields(line)
	if len(fields) < 4 || !slices.ContainsFunc(fields[3:], func(f string) bool {
		return f == "scram-sha-256" || f == "md5" || f == "password"
	}) {
		return ""
	}
	databases, names := strings.Split(fields[1], ","), strings.Split(fields[2], ",")
	local := fields[0] == "local"
	for _, u := range c.users() {
		// The superuser comes over the Unix socket, the others over TCP; the word all leaves replication out.
		if local != (u.role == "superuser") {
			continue
		}
		if (u.role == "replication") != slices.Contains(databases, "replication") {
			continue
		}
		if slices.Contains(names, "all") || slices.Contains(names, u.Username) {
			return u.Username
		}
	}
	return ""
}

func allLoopback(hosts string) bool {
	for h := range strings.SplitSeq(hosts, ",") {
		if !isLoopback(strings.TrimSpace(h)) {
			return false
		}
	}
	return true
}
