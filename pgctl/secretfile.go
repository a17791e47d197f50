package pgctl

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// secretFile puts a secret into a fresh file under the guard's directory that only its owner can read. remove removes it.
func (p *Postgres) secretFile(purpose string, content []byte) (path string, remove func(), err error) {
	if err := os.MkdirAll(p.opt.GuardDir, 0o700); err != nil {
		return "", nil, fmt.Errorf("secret file: %w", err)
	}
	f, err := os.CreateTemp(p.opt.GuardDir, purpose+".*.secret") // CreateTemp gives mode 0600
	if err != nil {
		return "", nil, fmt.Errorf("secret file: %w", err)
	}
	_, err = f.Write(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one that counts
		return "", nil, fmt.Errorf("secret file: %w", err)
	}
	return f.Name(), func() {
		if err := os.Remove(f.Name()); err != nil {
			p.opt.Log.Warn("secret file not removed", "file", f.Name(), "reason", err)
		}
	}, nil
}

// sourceConnInfo gives the connection string for a program that talks to s as user, with the password in a passfile of
// its own, never in the string: command lines can be read by every user of the machine. remove removes the passfile.
func (p *Postgres) sourceConnInfo(s Source, user Credentials, dbname, appName string) (conninfo string, remove func(), err error) {
	kv := [][2]string{
		{"host", s.Host}, {"port", strconv.Itoa(s.Port)}, {"user", user.Username}, {"dbname", dbname},
		{"application_name", appName}, {"connect_timeout", "5"},
		{"keepalives_idle", "5"}, {"keepalives_interval", "2"}, {"keepalives_count", "5"},
	}
	remove = func() {}
	if user.Password != "" {
		line := "*:*:*:*:" + passfileEscape(user.Password) + "\n"
		file, rm, err := p.secretFile("passfile", []byte(line))
		if err != nil {
			return "", nil, err
		}
		kv, remove = append(kv, [2]string{"passfile", file}), rm
	}
	parts := make([]string, 0, len(kv))
	for _, e := range kv {
		parts = append(parts, e[0]+"="+connInfoQuote(e[1]))
	}
	return strings.Join(parts, " "), remove, nil
}

// passfileEscape escapes a field of a passfile. Source: libpq-pgpass, PostgreSQL 15.
func passfileEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s)
}

// connInfoQuote quotes a value of a keyword/value connection string. Source: libpq-connstring, PostgreSQL 15.
func connInfoQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
