package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"pgquorum/cluster"
)

// standbyConf holds primary_conninfo, primary_slot_name and restore_command; only writeSource writes it.
const standbyConf = "pgquorum.standby.conf"

// Source is a server to stream from.
type Source struct {
	Node    cluster.NodeID
	Term    cluster.Term // the voting term under which it was chosen
	Host    string
	Port    int
	CatchUp bool // named by the taker's catch-up order of the promised term (V1)

	// Urgent: commits wait for this standby, after a take-over. The segment with which it begins the new timeline is then
	// not filled with zeros first, which takes longer than all the WAL in it; EaseSource ends that for later segments,
	// where it would make each flush slower.
	Urgent bool

	Timeline cluster.Timeline // that it serves as the primary; 0: not known, and then nothing is confirmed to it
}

// urgentLine is the setting that goes with it. Source: XLogFileInitInternal, xlog.c, PostgreSQL 15.
const urgentLine = "wal_init_zero = off\n"

// Follow points the standby at s, or at nobody (nil), by a reload and never by a restart: a WAL receiver that streams
// from another source is ended by PostgreSQL itself when it reads the change. ErrBelowPromise: s is of a term below the
// promise (V1). With Postgres stopped it only writes the file, which the next Start writes again.
//
// Follow(nil) does not prove that the receiver has ended: Cut does.
func (p *Postgres) Follow(ctx context.Context, s *Source, me cluster.Member) error {
	p.source.Lock()
	defer p.source.Unlock()
	changed, err := p.writeSource(s, me)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if !changed {
		return nil
	}
	if _, running := p.postmaster(); running {
		if err := p.guard.Load().Reload(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
			return fmt.Errorf("follow: reload: %w", err)
		}
	}
	return p.dropPassfiles(s)
}

// writeSource is the one function that writes primary_conninfo (V1); the caller holds p.source.
func (p *Postgres) writeSource(s *Source, me cluster.Member) (changed bool, err error) {
	if err := p.allowed(s); err != nil {
		return false, err
	}
	text := standbyConfHead + "# no source\n" + standbyLines("", "")
	if s != nil {
		passfile, err := p.writePassfile(s)
		if err != nil {
			return false, err
		}
		text = standbyConfHead + sourceLine(s) + standbyLines(p.primaryConnInfo(s, me, passfile), SlotName(p.opt.Self))
		if s.Urgent {
			text += urgentLine
		} else if have, err := os.ReadFile(p.standbyConfPath()); err == nil && string(have) == text+urgentLine {
			return false, nil // the source is the same
		}
	}
	return writeIfChanged(p.standbyConfPath(), text)
}

func (p *Postgres) standbyConfPath() string { return filepath.Join(p.opt.DataDir, standbyConf) }

// EaseSource takes back what an urgent source set, once the standby streams; source and receiver stay as they are.
func (p *Postgres) EaseSource(ctx context.Context) error {
	p.source.Lock()
	defer p.source.Unlock()
	have, err := os.ReadFile(p.standbyConfPath())
	if err != nil {
		return fmt.Errorf("ease source: %w", err)
	}
	text, urgent := strings.CutSuffix(string(have), urgentLine)
	if !urgent {
		return nil
	}
	if err := writeFileDurable(p.standbyConfPath(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("ease source: %w", err)
	}
	if err := p.guard.Load().Reload(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("ease source: reload: %w", err)
	}
	return nil
}

const standbyConfHead = "# Written by pgquorum at each change of the source; do not edit.\n"

// sourceMark begins the comment line that names term, timeline and source, so that Status can tell them after a restart.
const sourceMark = "# source "

// sourceLine is that line.
func sourceLine(s *Source) string {
	return fmt.Sprintf("%s%d %d %q\n", sourceMark, s.Term, s.Timeline, s.Node)
}

// standbyLines are the parameters. restore_command is always empty: V2 wants it to be a wrapper that refuses under a
// promise, and the cluster has no archive that such a wrapper could read from, so nothing can bring WAL past the cut.
func standbyLines(conninfo, slot string) string {
	return "primary_conninfo = " + confQuote(conninfo) + "\n" +
		"primary_slot_name = " + confQuote(slot) + "\n" +
		"restore_command = ''\n"
}

// primaryConnInfo is how the WAL receiver reaches s. The member's own name is used here only, and it streams through
// its own slot (S6). tcp_user_timeout and the keep-alives end a connection to a host that has vanished.
func (p *Postgres) primaryConnInfo(s *Source, me cluster.Member, passfile string) string {
	if passfile == "" {
		passfile = os.DevNull // the operating system user's own passfile is none of ours
	}
	pairs := []struct{ key, value string }{
		{"host", s.Host},
		{"port", strconv.Itoa(s.Port)},
		{"user", p.opt.Replication.Username},
		{"application_name", me.AppName(s.Timeline)},
		{"passfile", passfile},
		{"gssencmode", "disable"},
		{"connect_timeout", "2"},
		{"tcp_user_timeout", "5000"},
		{"keepalives_idle", "2"},
		{"keepalives_interval", "1"},
		{"keepalives_count", "3"},
	}
	var words []string
	for _, kv := range pairs {
		if kv.value != "" {
			words = append(words, kv.key+"="+connInfoQuote(kv.value))
		}
	}
	return strings.Join(words, " ")
}

// readSource gives the source that the file names, with the term and the timeline under which it was written; zero when it names
// none.
func (p *Postgres) readSource() (node cluster.NodeID, term cluster.Term, timeline cluster.Timeline) {
	data, err := os.ReadFile(p.standbyConfPath())
	if err != nil {
		return "", 0, 0
	}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), sourceMark)
		if !ok {
			continue
		}
		number, rest, _ := strings.Cut(rest, " ")
		line, quoted, _ := strings.Cut(rest, " ")
		t, err1 := strconv.ParseUint(number, 10, 64)
		tli, err2 := strconv.ParseUint(line, 10, 32)
		name, err3 := strconv.Unquote(quoted)
		if err1 == nil && err2 == nil && err3 == nil {
			return cluster.NodeID(name), cluster.Term(t), cluster.Timeline(tli)
		}
	}
	return "", 0, 0
}
