package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgquorum/cluster"
)

func TestInitDB(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := emptyNode(t, "n1", func(o *Options) { o.Superuser.Password = "it's" })
	// What a broken-off one left goes away; an empty directory is taken.
	leftover, operators := n.opt.DataDir+".initdb-0123456789ab", n.opt.DataDir+".initdb-notes"
	must(t, os.MkdirAll(filepath.Join(leftover, "base"), 0o700))
	must(t, os.Mkdir(operators, 0o700))
	must(t, os.Mkdir(n.opt.DataDir, 0o700))
	id, err := n.InitDB(within(t), n.me)
	must(t, err)
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("leftover: %v", err)
	}
	if _, err := os.Stat(operators); err != nil {
		t.Errorf("operator's directory: %v", err)
	}
	c, err := n.ControlData(within(t))
	must(t, err)
	if c.SystemID != id || id == "" || !c.Checksums || !c.Clean() {
		t.Errorf("system id %q, control data %+v", id, c)
	}
	if st := n.look(); st.Data != cluster.DataOurs || st.Incarnation != n.me.Incarnation {
		t.Errorf("data %s %s", st.Data, st.DataDetail)
	}
	secrets, err := filepath.Glob(filepath.Join(n.opt.GuardDir, "*.secret"))
	if err != nil || len(secrets) > 0 {
		t.Errorf("left secrets %v, %v", secrets, err)
	}
	// B4: refused and untouched when there is data.
	if _, err := n.InitDB(within(t), cluster.Member{Node: "n1", Incarnation: "other"}); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("second initdb: %v", err)
	}
	if st := n.look(); st.Incarnation != n.me.Incarnation || st.SystemID != id {
		t.Errorf("touched: %+v", st)
	}
}

func TestInitDBRefusesForeignFiles(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := emptyNode(t, "n1", nil)
	must(t, os.Mkdir(n.opt.DataDir, 0o700))
	file := filepath.Join(n.opt.DataDir, "thesis.txt")
	must(t, os.WriteFile(file, []byte("only copy"), 0o600))
	if _, err := n.InitDB(within(t), n.me); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("initdb: %v", err)
	}
	if err := n.BaseBackup(within(t), Source{Node: "n2", Host: "127.0.0.1", Port: 1}, n.me, nil); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("clone: %v", err)
	}
	if text, err := os.ReadFile(file); string(text) != "only copy" || err != nil {
		t.Errorf("file: %q, %v", text, err)
	}
}

// An initdb that breaks off leaves nothing that looks like data, and says why in one line.
func TestInitDBBreaksOff(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := emptyNode(t, "n1", nil)
	ctx, cancel := context.WithCancelCause(within(t))
	cancel(errors.New("operator's order"))
	_, err := n.InitDB(ctx, n.me)
	if err == nil || !strings.Contains(err.Error(), "operator's order") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	n.opt.BinDir = "/nonexistent"
	_, err = n.InitDB(within(t), n.me)
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/initdb") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	entries, err := filepath.Glob(n.opt.DataDir + "*")
	if err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestCreateUsers(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	weird := `a'b\c"d:é`
	n := emptyNode(t, "n1", func(o *Options) {
		o.Replication = Credentials{Username: `re"pl`, Password: weird}
		o.Rewind = Credentials{Username: "rewinder", Password: weird}
		o.Parameters["log_statement"] = "all"
		o.Parameters["log_min_duration_statement"] = "0"
	})
	must(t, second(n.InitDB(within(t), n.me)))
	n.startPrimary(1)
	// The list names nobody who is there: users come all the same, since standbys need them.
	must(t, n.SetSyncNames(within(t), `ANY 1 ("nobody")`))
	must(t, second(n.waitForSyncNames(within(t), `ANY 1 ("nobody")`)))
	for range 2 { // idempotent
		must(t, n.CreateUsers(within(t)))
	}
	if strings.Contains(n.log(), `a''b`) {
		t.Error("the server's log has the password")
	}
	st, err := n.askRewindSource(within(t), *n.asSource(1))
	must(t, err)
	if st.missing != "" || st.systemID != n.look().SystemID || st.control != 1 {
		t.Errorf("rewind user: %+v", st)
	}
	if _, err := dialPostgres(within(t), "127.0.0.1", n.opt.Port, Credentials{Username: "rewinder", Password: "wrong"}); err == nil {
		t.Error("a wrong password is accepted")
	}
	attributes := n.value("SELECT string_agg(format('%s %s %s %s', rolname, rolreplication, rolcanlogin, rolsuper), ', ' ORDER BY rolname) FROM pg_roles WHERE rolcanlogin")
	if want := `postgres t t t, re"pl t t f, rewinder f t f`; attributes != want {
		t.Errorf("roles %s, want %s", attributes, want)
	}
	method := n.value("SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'rewinder'")
	if method != "SCRAM-SHA-256" {
		t.Errorf("password kept as %s", method)
	}
	// A user that is the superuser itself is left alone.
	before := fmt.Sprint(n.value("SELECT xmin::text FROM pg_authid WHERE rolname = 'postgres'"))
	n.opt.Replication, n.opt.Rewind = Credentials{Username: "postgres"}, Credentials{Username: "postgres"}
	must(t, n.CreateUsers(within(t)))
	if after := n.value("SELECT xmin::text FROM pg_authid WHERE rolname = 'postgres'"); after != before {
		t.Error("the superuser was changed")
	}
}
