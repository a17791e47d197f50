package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version is the PostgreSQL under test: what of it is real, and what the scenarios therefore cannot show.
type Version struct {
	Server   string    // such as "17.10"
	Programs []Program // of a version that is not installed; none: all are the version's own
}

// Program is one of PostgreSQL's and where it comes from: own, of another version, a stand-in, or none.
type Program struct{ Name, Origin string }

// notShown says what the scenarios cannot show of a program that is not the version's own.
var notShown = map[string]string{
	"pg_rewind":      "no rewind: use_pg_rewind is off, a former primary that diverged is cloned anew, and TestKilledDuringRewind kills it in that clone",
	"pg_basebackup":  "no copy by this version's pg_basebackup",
	"pg_waldump":     "no end of WAL read by this version's pg_waldump",
	"pg_controldata": "no control file read by this version's pg_controldata",
}

// Version asks the server's program and reads what scripts/pg.sh has noted.
func (l *Lab) Version() (*Version, error) {
	out, err := exec.Command(filepath.Join(l.PostgresIn, "postgres"), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("version of PostgreSQL in %s: %w", l.PostgresIn, err)
	}
	_, server, _ := strings.Cut(strings.TrimSpace(string(out)), "(PostgreSQL) ")
	v := &Version{Server: server}
	notes, err := os.ReadFile(filepath.Join(filepath.Dir(l.PostgresIn), "PROGRAMS"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil // an installed PostgreSQL
	}
	if err != nil {
		return nil, fmt.Errorf("programs in %s: %w", l.PostgresIn, err)
	}
	for line := range strings.Lines(string(notes)) {
		name, origin, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			return nil, fmt.Errorf("programs in %s: line %q: want a name and an origin", l.PostgresIn, line)
		}
		v.Programs = append(v.Programs, Program{Name: name, Origin: origin})
	}
	return v, nil
}

// hasRewind says whether a former primary can be rewound.
func (l *Lab) hasRewind() bool {
	_, err := os.Stat(filepath.Join(l.PostgresIn, "pg_rewind"))
	return err == nil
}

// String says before the tests what is under test and what will not be shown.
func (v *Version) String() string {
	var b strings.Builder
	b.WriteString(v.Short())
	if len(v.Programs) == 0 {
		return b.String()
	}
	var words []string
	for _, p := range v.Programs {
		words = append(words, p.Name+" "+p.Origin)
	}
	fmt.Fprintf(&b, "  programs: %s\n", strings.Join(words, ", "))
	for _, p := range v.Programs {
		if why := notShown[p.Name]; p.Origin != "own" && why != "" {
			fmt.Fprintf(&b, "  NOT RUN: %s (%s: %s)\n", why, p.Name, p.Origin)
		}
	}
	return b.String()
}

// Short is the row for the summary.
func (v *Version) Short() string {
	var missing []string
	for _, p := range v.Programs {
		if notShown[p.Name] != "" && p.Origin != "own" {
			missing = append(missing, p.Name)
		}
	}
	if len(missing) == 0 {
		return fmt.Sprintf("PostgreSQL %s, all programs its own\n", v.Server)
	}
	return fmt.Sprintf("PostgreSQL %s, NOT RUN with its own %s\n", v.Server, strings.Join(missing, ", "))
}
