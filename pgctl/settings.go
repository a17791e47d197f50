package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pgquorum/cluster"
)

// The files in PGDATA that pgquorum writes; postgresql.conf includes them at its end.
const (
	mainConf = "pgquorum.conf"      // everything but the next two
	syncConf = "pgquorum.sync.conf" // synchronous_standby_names
)

// Settings are what the cluster and the node's file say of how Postgres is set up.
type Settings struct {
	Parameters map[string]string // postgresql.parameters of the dynamic config; the node's file's come on top
	PgHBA      []string          // postgresql.pg_hba of the dynamic config, after the node's file's lines
	SyncNames  string            // synchronous_standby_names
	Me         cluster.Member
}

// ours are the parameters that an operator cannot change: the protocol or the agent's own work rests on each.
// Sources of the numbers: docs/design.md section 4 for the speed of siblings, S8 for the status interval.
func (p *Postgres) ours() map[string]string {
	return map[string]string{
		"hot_standby":                  "on",
		"wal_log_hints":                "on", // pg_rewind, also without checksums
		"full_page_writes":             "on", // pg_rewind
		"restart_after_crash":          "off",
		"recovery_target_timeline":     "latest",
		"hot_standby_feedback":         "off",
		"wal_receiver_status_interval": "1s",
		"wal_receiver_timeout":         "5s",
		"wal_sender_timeout":           "5s",
		"wal_retrieve_retry_interval":  "50ms",
		"hba_file":                     filepath.Join(p.opt.DataDir, hbaFile),
		"unix_socket_permissions":      p.socketPermissions(),
	}
}

// elsewhere are parameters that pgquorum sets by other means, or that would undo what it does.
var elsewhere = []string{
	"listen_addresses", "port", "unix_socket_directories", // on the command line
	"synchronous_standby_names",                                // pgquorum.sync.conf
	"primary_conninfo", "primary_slot_name", "restore_command", // pgquorum.standby.conf
	"data_directory", "config_file", "promote_trigger_file", "recovery_end_command",
	"recovery_target", "recovery_target_action", "recovery_target_inclusive", "recovery_target_lsn",
	"recovery_target_name", "recovery_target_time", "recovery_target_xid",
}

// defaults are used where the operator says nothing.
var defaults = map[string]string{
	"wal_level":             "replica",
	"max_wal_senders":       "10",
	"max_replication_slots": "10",
	"wal_keep_size":         "128MB",
	"synchronous_commit":    "on",
	"logging_collector":     "off", // stderr goes to the guard's log file
}

// atLeast are numbers that an operator may raise, not lower.
var atLeast = map[string]int{"max_wal_senders": 10, "max_replication_slots": 10}

// ApplySettings rewrites pgquorum.conf, pgquorum.sync.conf and pg_hba.conf and has a running Postgres read them if
// anything changed. What needs a restart shows in Status as PendingRestart. It never touches primary_conninfo.
func (p *Postgres) ApplySettings(ctx context.Context, s Settings) error {
	p.change.Lock()
	defer p.change.Unlock()
	standby := true
	if _, err := os.Stat(filepath.Join(p.opt.DataDir, standbySignal)); errors.Is(err, fs.ErrNotExist) {
		standby = false
	}
	changed, err := p.writeSettings(ctx, s, standby)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	run, running := p.postmaster()
	if !changed || !running {
		return nil
	}
	if err := p.guard.Load().Reload(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("settings: reload: %w", err)
	}
	p.sync.read.set(run, s.SyncNames)
	return nil
}

// writeSettings writes all files but the standby's; the caller holds p.change.
func (p *Postgres) writeSettings(ctx context.Context, s Settings, standby bool) (changed bool, err error) {
	params, warnings := p.parameters(s.Parameters)
	if standby {
		if err := p.raiseToControl(ctx, params); err != nil {
			return false, err
		}
	}
	if s.SyncNames == "" {
		p.sync.flag.lost() // S3, as in SetSyncNames
	}
	files := []struct{ name, text string }{
		{mainConf, confText(params)},
		{syncConf, syncText(s.SyncNames)},
		{hbaFile, p.hbaText(append(slices.Clone(p.opt.PgHBA), s.PgHBA...))},
	}
	for _, f := range files {
		c, err := writeIfChanged(filepath.Join(p.opt.DataDir, f.name), f.text)
		if err != nil {
			return false, err
		}
		changed = changed || c
		if c && f.name == syncConf {
			p.sync.read.set(postmaster{}, "")
		}
		if c && f.name == mainConf {
			for _, w := range warnings {
				p.opt.Log.WarnContext(ctx, "parameter not taken over", "reason", w)
			}
		}
	}
	if err := p.includeOurFiles(p.opt.DataDir); err != nil {
		return false, err
	}
	stripped, err := p.stripAutoConf()
	return changed || stripped, err
}

// parameters merges ours, the node's, the cluster's and the defaults, in this order of precedence, and says what it
// could not take over.
func (p *Postgres) parameters(dynamic map[string]string) (merged map[string]string, warnings []string) {
	ours := p.ours()
	operator := map[string]string{}
	for _, from := range []map[string]string{dynamic, p.opt.Parameters} {
		for k, v := range from {
			operator[strings.ToLower(k)] = v
		}
	}
	merged = maps.Clone(defaults)
	for _, k := range slices.Sorted(maps.Keys(operator)) {
		v := operator[k]
		_, own := ours[k]
		switch lowest, bounded := atLeast[k]; {
		case own || slices.Contains(elsewhere, k):
			warnings = append(warnings, fmt.Sprintf("%s is set by pgquorum, %q is ignored", k, v))
		case k == "wal_level" && v != "logical" && v != "replica":
			warnings = append(warnings, fmt.Sprintf("wal_level must be replica or logical, %q is ignored", v))
		case bounded && !numberAtLeast(v, lowest):
			warnings = append(warnings, fmt.Sprintf("%s must be at least %d, %q is ignored", k, lowest, v))
		case !isParameterName(k):
			warnings = append(warnings, fmt.Sprintf("%q is no parameter's name", k))
		default:
			merged[k] = v
		}
	}
	maps.Copy(merged, ours)
	return merged, warnings
}

// numberAtLeast says whether v is a whole number of at least n.
func numberAtLeast(v string, n int) bool {
	have, err := strconv.Atoi(strings.TrimSpace(v))
	return err == nil && have >= n
}

// isParameterName keeps line breaks and the like out of a file of ours.
func isParameterName(k string) bool {
	return k != "" && !strings.ContainsFunc(k, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '.'
	})
}

// raiseToControl raises a standby's parameters to what its control file, and so its primary, has: PostgreSQL refuses to
// start (or pauses) a standby with less.
// Source: CheckRequiredParameterValues, xlogrecovery.c, PostgreSQL 15.
func (p *Postgres) raiseToControl(ctx context.Context, params map[string]string) error {
	c, err := p.cachedControl(ctx)
	if err != nil {
		return err
	}
	for k, least := range c.Limits {
		if v, set := params[k]; !set || !numberAtLeast(v, least) {
			params[k] = strconv.Itoa(least)
		}
	}
	return nil
}

// confText is a configuration file with the parameters in order.
func confText(params map[string]string) string {
	var b strings.Builder
	b.WriteString("# Written by pgquorum at each start and change of the config; do not edit.\n")
	for _, k := range slices.Sorted(maps.Keys(params)) {
		b.WriteString(k + " = " + confQuote(params[k]) + "\n")
	}
	return b.String()
}

// syncText is pgquorum.sync.conf.
func syncText(list string) string { return "synchronous_standby_names = " + confQuote(list) + "\n" }

// confQuote quotes a value for postgresql.conf. Source: GUC_scanstr, guc-file.l, PostgreSQL 15: a quote is doubled and
// backslashes begin escapes.
func confQuote(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`).Replace(v) + "'"
}

// writeIfChanged writes text durably unless the file has it already.
func writeIfChanged(path, text string) (changed bool, err error) {
	have, err := os.ReadFile(path)
	if err == nil && string(have) == text {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, writeFileDurable(path, []byte(text), 0o600)
}
