package config

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"pgquorum/cluster"
)

// check makes every check that the file alone allows. It runs on a Config with its defaults filled in.
func (c *Config) check(found *findings) {
	c.checkNames(found)
	c.checkRaftAddresses(found)
	c.checkMembers(found)
	c.checkLease(found)
	c.checkSoftFence(found)
	c.checkSnapshots(found)
	c.checkRaftTLS(found)
	c.checkDirectories(found)
	c.checkPorts(found)
	c.checkRestAPI(found)
	c.checkPostgres(found)
	c.checkUsers(found)
	c.checkDisk(found)
	c.checkWatchdog(found)
	c.checkTags(found)
	c.checkLog(found)
	c.checkDCS(found)
}

var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// maxName leaves room for _, an incarnation of 8 hexadecimal digits, _ and a timeline in application_name, which PostgreSQL
// cuts at 63 bytes (S6).
var maxName = 63 - len(cluster.Member{Incarnation: "01234567"}.AppName(math.MaxUint32))

func (c *Config) checkNames(found *findings) {
	for _, k := range []struct{ key, value string }{{"scope", c.Scope}, {"name", c.Name}} {
		if k.value == "" {
			found.refuse(c.places.of(k.key), k.key, "required")
		} else if why := badName(k.value); why != "" {
			found.refuse(c.places.of(k.key), k.key, "%s", why)
		}
	}
}

func badName(name string) string {
	if !nameSyntax.MatchString(name) {
		return `want letters, digits, "-", "_" and "." only, have "` + name + `"`
	}
	if len(name) > maxName {
		return "want at most " + itoa(maxName) + " characters, have " + itoa(len(name))
	}
	return ""
}

// address refuses what is no host:port; concreteOnly also what nobody can connect to.
func (c *Config) address(found *findings, key, value string, concreteOnly bool) (host string, port int, ok bool) {
	host, port, err := splitAddress(value)
	switch at := c.places.of(key); {
	case value == "":
		found.refuse(at, key, "required")
	case err != nil:
		found.refuse(at, key, "%v", err)
	case concreteOnly && (isWildcard(host) || strings.Contains(host, ",")):
		found.refuse(at, key, "want one address that others can connect to, have %q", value)
	default:
		return host, port, true
	}
	return "", 0, false
}

// checkPorts refuses two listeners on one port. Different hosts do not matter: one of them may later become a wildcard.
func (c *Config) checkPorts(found *findings) {
	type use struct{ key, value string }
	taken := map[int]string{}
	for _, u := range []use{{"raft.listen", c.Raft.Listen}, {"restapi.listen", c.RestAPI.Listen}, {"postgresql.listen", c.PostgreSQL.Listen}} {
		_, port, err := splitAddress(u.value)
		if err != nil {
			continue // named by the section's own check
		}
		if other, clash := taken[port]; clash {
			found.refuse(c.places.of(u.key), u.key, "port %d is %s's already; each needs its own", port, other)
			continue
		}
		taken[port] = u.key
	}
}

func (c *Config) checkLog(found *findings) {
	c.oneOf(found, "log.level", c.Log.Level, "debug", "info", "warning", "error")
	c.oneOf(found, "log.format", c.Log.Format, "text", "json")
	c.Log.Level, c.Log.Format = strings.ToLower(c.Log.Level), strings.ToLower(c.Log.Format)
}

func (c *Config) checkDCS(found *findings) {
	d, at := c.Bootstrap.DCS, func(key string) Place { return c.places.of("bootstrap.dcs." + key) }
	if d.SynchronousNodeCount < 1 {
		found.refuse(at("synchronous_node_count"), "bootstrap.dcs.synchronous_node_count", "want 1 or more, have %d", d.SynchronousNodeCount)
	}
	if d.PrimaryStartTimeout < 0 {
		found.refuse(at("primary_start_timeout"), "bootstrap.dcs.primary_start_timeout", "want 0 or more, have %v", d.PrimaryStartTimeout)
	}
	if d.PrimaryStopTimeout < 0 {
		found.refuse(at("primary_stop_timeout"), "bootstrap.dcs.primary_stop_timeout", "want 0 or more, have %v", d.PrimaryStopTimeout)
	}
	if d.SynchronousModeStrict && d.SynchronousMode == cluster.SyncOff {
		found.warn(at("synchronous_mode_strict"), "bootstrap.dcs.synchronous_mode_strict", "has no effect beside synchronous_mode: off")
	}
}

// oneOf refuses a value that is none of words; case does not matter.
func (c *Config) oneOf(found *findings, key, value string, words ...string) {
	if !slices.Contains(words, strings.ToLower(value)) {
		found.refuse(c.places.of(key), key, "want %s, have %q", orList(words), value)
	}
}

func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
