package api

import (
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// limits are what a health check's query asks of a standby.
type limits struct {
	lag      uint64 // bytes; math.MaxUint64: no limit
	lagGiven bool
	maxAge   time.Duration // of what is read; 0: no limit
	minLSN   cluster.LSN   // replayed at least; 0: no limit
	state    string        // replication_state; empty: any
	write    bool          // mode=write: count what was received, not what was replayed
	never    bool          // a bound of ours was unreadable: nothing satisfies it
	tags     map[string]string
}

var noLimits = limits{lag: math.MaxUint64}

// parseLimits reads a query. A lag that cannot be parsed is no limit, as in Patroni. A max_age or min_lsn that cannot
// be parsed is met by nobody: whoever asks to read his own writes must not be sent to a standby that lacks them.
func parseLimits(q url.Values) limits {
	l := noLimits
	if lag, ok := parseBytes(q.Get("lag")); ok {
		l.lag, l.lagGiven = lag, true
	}
	if v := q.Get("max_age"); v != "" {
		seconds, err := strconv.ParseFloat(v, 64)
		if err != nil || !(seconds > 0 && seconds < 1e9) {
			l.never = true
		}
		l.maxAge = time.Duration(seconds * float64(time.Second))
	}
	if v := q.Get("min_lsn"); v != "" {
		lsn, err := cluster.ParseLSN(v)
		if err != nil {
			l.never = true
		}
		l.minLSN = lsn
	}
	l.state = q.Get("replication_state")
	l.write = q.Get("mode") == "write"
	for key, values := range q {
		if name, ok := strings.CutPrefix(key, "tag_"); ok {
			if l.tags == nil {
				l.tags = make(map[string]string)
			}
			l.tags[name] = values[0]
		}
	}
	return l
}

// Numbers as strtol and strtod read them, which is how Patroni (and PostgreSQL) reads sizes: 0x10, 010, 16, 1.5, 2e3.
var (
	integerPattern = regexp.MustCompile(`^[-+]?(0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)`)
	decimalPattern = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?`)
)

// unitSizes are the units of a size; case counts. A fraction is rounded to whole units of the next smaller one.
var unitSizes = map[string]struct{ size, step float64 }{
	"":   {1, 1},
	"B":  {1, 1},
	"kB": {1 << 10, 1},
	"MB": {1 << 20, 1 << 10},
	"GB": {1 << 30, 1 << 20},
	"TB": {1 << 40, 1 << 30},
}

// parseBytes reads a size such as 1048576, 16MB, 1.5GB or 0x400 kB. ok is false for anything else, and for a size that
// no LSN can reach. A negative size counts as 0.
func parseBytes(s string) (n uint64, ok bool) {
	s = strings.TrimSpace(s)
	value, rest, ok := leadingNumber(s)
	if !ok {
		return 0, false
	}
	unit, known := unitSizes[strings.TrimSpace(rest)]
	if !known {
		return 0, false
	}
	bytes := math.RoundToEven(value*unit.size/unit.step) * unit.step
	if math.IsNaN(bytes) || bytes >= 1<<63 {
		return 0, false
	}
	return uint64(max(bytes, 0)), true
}

func leadingNumber(s string) (value float64, rest string, ok bool) {
	text := integerPattern.FindString(s)
	rest = s[len(text):]
	if rest != "" && strings.ContainsRune(".eE", rune(rest[0])) {
		text = decimalPattern.FindString(s)
		value, err := strconv.ParseFloat(text, 64)
		return value, s[len(text):], err == nil
	}
	n, err := strconv.ParseInt(text, 0, 64)
	return float64(n), rest, err == nil
}
