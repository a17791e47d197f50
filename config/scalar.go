package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"pgquorum/cluster"
)

// setText reads text into a field of the key's kind. Errors say what was wanted and what was seen.
func setText(field reflect.Value, k *key, text string) error {
	var value any
	var err error
	switch k.kind {
	case kindText:
		value = text
	case kindBool:
		value, err = parseBool(text)
	case kindInt:
		value, err = parseInt(text)
	case kindDuration:
		value, err = parseDuration(text)
	case kindBytes:
		value, err = parseBytes(text)
	case kindSyncMode:
		value, err = parseSyncMode(text)
	default:
		return fmt.Errorf("want a %s, have a single value", k.kind)
	}
	if err == nil {
		field.Set(reflect.ValueOf(value))
	}
	return err
}

// parseBool takes YAML 1.2's words and those of YAML 1.1, which Patroni's files use.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "on", "yes":
		return true, nil
	case "false", "off", "no":
		return false, nil
	}
	return false, fmt.Errorf("want true or false, have %q", text)
}

func parseInt(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, have %q", text)
	}
	return int(n), nil
}

// parseDuration takes Go's form (800ms, 1s, 5m) or, as in Patroni's files, a plain number of seconds.
func parseDuration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/1e9 {
			return 0, fmt.Errorf("want a duration such as 1s or 800ms, or seconds, have %q", text)
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 1s or 800ms, or seconds, have %q", text)
	}
	return d, nil
}

// parseBytes takes PostgreSQL's memory units, powers of 1024. Source: guc.c, memory_unit_conversion_table.
func parseBytes(text string) (Bytes, error) {
	units := []struct {
		name  string
		shift uint
	}{{"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}, {"B", 0}}
	number, shift := text, uint(0)
	for _, u := range units {
		if cut, ok := strings.CutSuffix(text, u.name); ok {
			number, shift = strings.TrimSpace(cut), u.shift
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("want bytes, or a number with B, kB, MB, GB or TB, have %q", text)
	}
	return Bytes(n << shift), nil
}

// parseSyncMode takes the three modes, and the booleans that Patroni takes for on and off.
func parseSyncMode(text string) (cluster.SyncMode, error) {
	if strings.EqualFold(text, string(cluster.SyncQuorum)) {
		return cluster.SyncQuorum, nil
	}
	on, err := parseBool(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("want quorum, on or off, have %q", text)
	case on:
		return cluster.SyncOn, nil
	}
	return cluster.SyncOff, nil
}

// initdbOption reads an option as Patroni's files have it, data-checksums or encoding: UTF8, and gives it as initdb
// takes it.
func (d *decoder) initdbOption(path string, n ast.Node) (string, bool) {
	n = d.resolve(n)
	if text, ok := scalar(n); ok {
		return d.allowedInitDB(path, n, "--"+strings.TrimPrefix(text, "--"))
	}
	var option string
	count, good := 0, true
	d.pairs(n, path, func(name string, _, value ast.Node) {
		text, ok := d.text(path, value)
		option, count, good = "--"+strings.TrimPrefix(name, "--")+"="+text, count+1, good && ok
	})
	if count != 1 {
		d.found.refuse(d.place(n), path, "want an option such as data-checksums or encoding: UTF8, have %d keys in one entry", count)
		return "", false
	}
	if !good {
		return "", false
	}
	return d.allowedInitDB(path, n, option)
}

// ownInitDB are the options of initdb that the agent sets itself, or that would end it without a cluster.
var ownInitDB = []string{"--pgdata", "--username", "--pwfile", "--pwprompt", "--auth", "--auth-host", "--auth-local", "--no-sync", "--nosync", "--sync-only", "--version", "--help", "--show"}

func (d *decoder) allowedInitDB(path string, n ast.Node, option string) (string, bool) {
	name, _, _ := strings.Cut(option, "=")
	for _, own := range ownInitDB {
		if name == own {
			d.found.refuse(d.place(n), path, "%s is the agent's own; take it out", own)
			return "", false
		}
	}
	return option, true
}
