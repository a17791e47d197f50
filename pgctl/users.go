package pgctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CreateUsers creates the replication and the rewind user on the primary, or brings existing ones into line with the
// node's file. It may be repeated. A user that is the superuser itself, or has no name, is left alone.
func (p *Postgres) CreateUsers(ctx context.Context) error {
	repl, rewind, super := p.opt.Replication, p.opt.Rewind, p.opt.Superuser
	if repl.Username == rewind.Username && repl.Username != super.Username && repl.Password != rewind.Password {
		return fmt.Errorf("users: replication and rewind user are both %q but have different passwords", repl.Username)
	}
	conn, err := p.superuserConn(ctx)
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	defer closeConn(ctx, conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := quietSession(ctx, tx); err != nil {
			return err
		}
		if repl.Username != "" && repl.Username != super.Username {
			if err := ensureUser(ctx, tx, repl, "LOGIN REPLICATION"); err != nil {
				return err
			}
		}
		if rewind.Username != "" && rewind.Username != super.Username {
			if err := ensureUser(ctx, tx, rewind, "LOGIN"); err != nil {
				return err
			}
			return grantRewind(ctx, tx, rewind.Username)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	return nil
}

// quietSession keeps passwords out of the server's log and lets the commit go on before any standby is there: the
// standbys need these users to connect at all. Losing them loses nothing, since they are made again.
func quietSession(ctx context.Context, tx pgx.Tx) error {
	for _, set := range []string{
		"SET LOCAL log_statement = 'none'",
		"SET LOCAL log_min_duration_statement = -1",
		"SET LOCAL log_min_duration_sample = -1",
		"SET LOCAL log_min_error_statement = 'panic'",
		"SET LOCAL password_encryption = 'scram-sha-256'",
		"SET LOCAL standard_conforming_strings = on",
		"SET LOCAL synchronous_commit = local",
		"SET LOCAL search_path = pg_catalog",
	} {
		if _, err := tx.Exec(ctx, set); err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
	}
	return nil
}

// ensureUser creates or alters a role. An empty password leaves the role's password as it is.
func ensureUser(ctx context.Context, tx pgx.Tx, user Credentials, attributes string) error {
	if strings.ContainsRune(user.Username+user.Password, 0) {
		return errors.New("a user's name or password holds a zero byte")
	}
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_roles WHERE rolname = $1", user.Username).Scan(&exists); err != nil {
		return err
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	sql := fmt.Sprintf("%s ROLE %s WITH %s", verb, quoteIdent(user.Username), attributes)
	if user.Password != "" {
		sql += " PASSWORD " + sqlLiteral(user.Password)
	}
	if _, err := tx.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s role %s: %w", strings.ToLower(verb), user.Username, err)
	}
	return nil
}

// rewindFunctions are what pg_rewind calls on its source. Source: "pg_rewind", Notes, PostgreSQL 15 documentation.
var rewindFunctions = []string{
	"pg_catalog.pg_ls_dir(text, boolean, boolean)",
	"pg_catalog.pg_stat_file(text, boolean)",
	"pg_catalog.pg_read_binary_file(text)",
	"pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
}

// grantRewind lets a user be pg_rewind's, unless it may already: each grant writes WAL.
func grantRewind(ctx context.Context, tx pgx.Tx, user string) error {
	for _, f := range rewindFunctions {
		var may bool
		if err := tx.QueryRow(ctx, "SELECT has_function_privilege($1, $2, 'EXECUTE')", user, f).Scan(&may); err != nil {
			return err
		}
		if may {
			continue
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s TO %s", f, quoteIdent(user))); err != nil {
			return fmt.Errorf("grant %s: %w", f, err)
		}
	}
	return nil
}

// quoteIdent quotes an SQL identifier.
func quoteIdent(s string) string { return pgx.Identifier{s}.Sanitize() }

// sqlLiteral quotes an SQL string, right under either setting of standard_conforming_strings.
func sqlLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
