package pgctl

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// sourceInfo is what a clone must know of its source beforehand.
type sourceInfo struct {
	systemID    string
	version     string   // server_version
	tablespaces []string // their directories; those inside PGDATA left out
	bytes       int64    // size of all; 0: the user may not ask
	elsewhere   bool     // some of it goes to tablespaces' own directories
	ownSlot     bool     // the source has this member's slot, free
}

// sourceUser is the user for SQL on another node: the rewind user, else the superuser.
func (p *Postgres) sourceUser() Credentials {
	if p.opt.Rewind.Username != "" {
		return p.opt.Rewind
	}
	return p.opt.Superuser
}

// askSource reads the source's tablespaces, its size as far as the user may know it, and whether our slot is free.
func (p *Postgres) askSource(ctx context.Context, s Source) (sourceInfo, error) {
	conn, err := dialPostgres(ctx, s.Host, s.Port, p.sourceUser())
	if err != nil {
		return sourceInfo{}, err
	}
	defer closeConn(ctx, conn)
	info := sourceInfo{version: conn.PgConn().ParameterStatus("server_version")}
	info.tablespaces, info.bytes, err = readTablespaces(ctx, conn)
	if err != nil {
		return sourceInfo{}, fmt.Errorf("tablespaces of %s: %w", s.Node, err)
	}
	info.elsewhere = len(info.tablespaces) > 0
	err = conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&info.systemID)
	if err != nil {
		return sourceInfo{}, fmt.Errorf("system identifier of %s: %w", s.Node, err)
	}
	err = conn.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_replication_slots
		WHERE slot_name = $1 AND slot_type = 'physical' AND NOT active AND wal_status IS DISTINCT FROM 'lost'`,
		SlotName(p.opt.Self)).Scan(&info.ownSlot)
	if err != nil {
		return sourceInfo{}, fmt.Errorf("slots of %s: %w", s.Node, err)
	}
	return info, nil
}

// readTablespaces gives the directories of the tablespaces outside PGDATA and the size of all. pg_tablespace_size is
// for those with the right to create there or to read all stats: a tablespace that may not be asked counts nothing.
func readTablespaces(ctx context.Context, conn *pgx.Conn) (dirs []string, size int64, err error) {
	rows, err := conn.Query(ctx, `SELECT pg_tablespace_location(oid), CASE
		WHEN pg_has_role('pg_read_all_stats', 'USAGE') OR has_tablespace_privilege(oid, 'CREATE')
		  OR oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database())
		THEN pg_tablespace_size(oid) ELSE 0 END
		FROM pg_tablespace ORDER BY oid`)
	if err != nil {
		return nil, 0, err
	}
	var dir string
	var bytes int64
	_, err = pgx.ForEachRow(rows, []any{&dir, &bytes}, func() error {
		size += bytes
		if len(dir) > 0 && dir[0] == '/' { // '' is pg_default and pg_global; a relative one stands inside PGDATA
			dirs = append(dirs, dir)
		}
		return nil
	})
	return dirs, size, err
}

// checkSpace refuses a clone that would not fit into the file system of dir. With tablespaces the parts may go to
// several file systems, and pg_basebackup will tell.
func (i sourceInfo) checkSpace(dir string) error {
	if i.elsewhere {
		return nil
	}
	free, err := freeSpace(dir)
	if err != nil {
		return err
	}
	if need := uint64(i.bytes) + cloneMargin; free < need {
		return fmt.Errorf("%s: want %d MB (source %d MB and a margin of %d MB), free are %d MB: %w",
			dir, need>>20, i.bytes>>20, uint64(cloneMargin)>>20, free>>20, ErrNoSpace)
	}
	return nil
}

// freeSpace is what an ordinary user may still write to dir's file system, in bytes.
func freeSpace(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// sourceState is what pg_rewind's source must be able to do.
type sourceState struct {
	systemID string
	control  cluster.Timeline // of the latest checkpoint: what pg_rewind takes for the source's timeline
	standby  bool
	missing  string // a right that the user lacks
}

// askRewindSource reads it.
func (p *Postgres) askRewindSource(ctx context.Context, s Source) (st sourceState, err error) {
	conn, err := dialPostgres(ctx, s.Host, s.Port, p.sourceUser())
	if err != nil {
		return st, err
	}
	defer closeConn(ctx, conn)
	var tli int64
	err = conn.QueryRow(ctx, `SELECT s.system_identifier::text, c.timeline_id, pg_is_in_recovery()
		FROM pg_control_system() s, pg_control_checkpoint() c`).Scan(&st.systemID, &tli, &st.standby)
	if err != nil {
		return st, fmt.Errorf("control file of %s: %w", s.Node, err)
	}
	st.control = cluster.Timeline(tli)
	for _, f := range rewindFunctions {
		var may bool
		if err := conn.QueryRow(ctx, "SELECT has_function_privilege($1, 'EXECUTE')", f).Scan(&may); err != nil {
			return st, err
		}
		if !may {
			st.missing = f
			return st, nil
		}
	}
	return st, nil
}
