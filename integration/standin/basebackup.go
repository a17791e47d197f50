package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// baseBackup copies a server of version 15 or newer into --pgdata, WAL included. Unlike pg_basebackup it fetches the WAL
// with the copy (so that it opens no second connection and leaves --slot alone), and leaves the writing to disk to the
// kernel: hosts under test lose their processes, never their page cache.
func baseBackup(ctx context.Context, args []string, progress io.Writer) error {
	flags := flag.NewFlagSet("pg_basebackup", flag.ContinueOnError)
	dir := flags.String("pgdata", "", "where the copy goes")
	conninfo := flags.String("dbname", "", "the server")
	for _, name := range []string{"format", "wal-method", "checkpoint", "slot"} {
		flags.String(name, "", "as it must be")
	}
	for _, name := range []string{"progress", "no-password", "no-slot"} {
		flags.Bool(name, false, "as it must be")
	}
	mapping := map[string]string{}
	flags.Func("tablespace-mapping", "from=to, for each tablespace", func(v string) error {
		parts := strings.Split(strings.ReplaceAll(v, `\=`, "\x00"), "=") // a directory's own = is escaped
		if len(parts) != 2 {
			return errors.New("want two directories")
		}
		mapping[strings.ReplaceAll(parts[0], "\x00", "=")] = strings.ReplaceAll(parts[1], "\x00", "=")
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, *conninfo)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the copy is whole or an error came before
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	return receive(ctx, conn, &copied{dir: *dir, mapping: mapping, progress: progress})
}

// dial opens a replication connection; libpq's keep-alives have no meaning to pgx, which would pass them to the server.
func dial(ctx context.Context, conninfo string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(conninfo)
	if err != nil {
		return nil, err
	}
	for name := range cfg.RuntimeParams {
		if strings.HasPrefix(name, "keepalives") {
			delete(cfg.RuntimeParams, name)
		}
	}
	cfg.RuntimeParams["replication"] = "true"
	return pgconn.ConnectConfig(ctx, cfg)
}

// receive asks for the copy and unpacks what comes. Source: "BASE_BACKUP", Streaming Replication Protocol, PostgreSQL 15
// to 18 documentation.
func receive(ctx context.Context, conn *pgconn.PgConn, c *copied) error {
	const ask = `BASE_BACKUP (LABEL 'pgquorum stand-in', PROGRESS, CHECKPOINT 'fast', WAL, MANIFEST 'no')`
	conn.Frontend().Send(&pgproto3.Query{String: ask})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return c.abort(err)
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			err = c.row(m.Values)
		case *pgproto3.CopyData:
			err = c.take(m.Data)
		case *pgproto3.CopyDone:
			err = c.endArchive()
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			if c.archives == 0 {
				return errors.New("the server sent no copy")
			}
			return nil
		}
		if err != nil {
			return c.abort(err)
		}
	}
}

// copied is the copy as it grows.
type copied struct {
	dir      string
	mapping  map[string]string // a tablespace's directory on the server: here
	progress io.Writer
	total    int64 // kB, an estimate of the server's
	archives int

	archive  *io.PipeWriter // the present one; nil: none
	unpacked chan error
}

// row reads the second result's rows: tablespace, its directory, its size in kB. The first has two columns.
func (c *copied) row(values [][]byte) error {
	if len(values) != 3 {
		return nil
	}
	var size int64
	_, err := fmt.Sscan(string(values[2]), &size)
	c.total += size
	return err
}

// take reads one message of the copy: a new archive, its data, or how much was sent.
func (c *copied) take(data []byte) error {
	if len(data) == 0 {
		return errors.New("an empty message")
	}
	switch kind, rest := data[0], data[1:]; kind {
	case 'n':
		return c.newArchive(rest)
	case 'd':
		_, err := io.Copy(c.archive, bytes.NewReader(rest))
		return err
	case 'p':
		done := int64(binary.BigEndian.Uint64(rest)) >> 10
		c.total = max(c.total, done)
		_, err := fmt.Fprintf(c.progress, "%d/%d kB (%d%%), 0/1 tablespace\n", done, c.total, 100*done/max(c.total, 1))
		return err
	}
	return nil
}

// newArchive begins to unpack the next archive; its head is two names, that of the archive and the tablespace's directory.
func (c *copied) newArchive(head []byte) error {
	if err := c.endArchive(); err != nil {
		return err
	}
	names := bytes.Split(head, []byte{0})
	if len(names) < 2 {
		return fmt.Errorf("an archive's head %q: want two names", head)
	}
	dir := c.dir
	if from := string(names[1]); from != "" {
		dir = c.mapping[from]
		if dir == "" {
			return fmt.Errorf("tablespace %s: want a --tablespace-mapping", from)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	read, write := io.Pipe()
	unpacked := make(chan error, 1)
	c.archive, c.unpacked = write, unpacked
	c.archives++
	go func() {
		err := unpack(read, dir, c.mapping)
		unpacked <- err
		_ = read.CloseWithError(err) // the writer sees err
	}()
	return nil
}

// endArchive waits until the present archive is unpacked, if there is one.
func (c *copied) endArchive() error {
	if c.archive == nil {
		return nil
	}
	err := c.archive.Close()
	c.archive = nil
	return errors.Join(err, <-c.unpacked)
}

// abort ends the unpacking.
func (c *copied) abort(err error) error {
	if c.archive != nil {
		_ = c.archive.CloseWithError(err)
		<-c.unpacked
	}
	return err
}

// unpack writes a tar archive's files, and reads it to its very end.
func unpack(r io.Reader, dir string, mapping map[string]string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := unpackOne(root, h, archive, mapping); err != nil {
			return err
		}
	}
}

// unpackOne writes one file, directory, or link to a tablespace.
func unpackOne(root *os.Root, h *tar.Header, content io.Reader, mapping map[string]string) error {
	name := filepath.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		to := mapping[h.Linkname]
		if to == "" {
			return fmt.Errorf("%s: link to %s: want a --tablespace-mapping", h.Name, h.Linkname)
		}
		return root.Symlink(to, name)
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		return errors.Join(err, file.Close())
	}
	return fmt.Errorf("%s: type %q, want a file or a directory", h.Name, h.Typeflag)
}
