package pgctl

import (
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"pgquorum/cluster"
)

// S6, S8: a member has confirmed when its one walsender, on its own slot, has flushed that far.
func TestConfirmed(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	absent := cluster.Member{Node: "n3", Incarnation: "z"}
	former := cluster.Member{Node: "n2", Incarnation: "former"}
	ms := []cluster.Member{s.me, absent, former}
	want := []cluster.Member{s.me}
	at := primary.flushed()
	primary.awaitConfirmed(at, ms, want)

	// Beyond what is there.
	if got, dup, err := primary.Confirmed(within(t), 0, at+1<<30, ms); err != nil || len(got)+len(dup) > 0 {
		t.Errorf("beyond the end of WAL: %v, %v, %v", got, dup, err)
	}

	// S6: a second walsender of the name is ended and reported, and the name confirms nothing in that look.
	stop := primary.receiveWAL(s.me.AppName(0))
	defer stop()
	sawDuplicate := false
	eventually(t, 30*time.Second, "the second walsender is seen", func() bool {
		got, dup, err := primary.Confirmed(within(t), 0, at, ms)
		must(t, err)
		if slices.Equal(dup, []string{s.me.AppName(0)}) {
			sawDuplicate = len(got) == 0
			return true
		}
		return false
	})
	if !sawDuplicate {
		t.Error("a name with two walsenders confirmed")
	}
	stop()
	primary.awaitConfirmed(primary.flushed(), ms, want)

	// S8: a standby that does not reply any more confirms nothing, though the row still says streaming.
	primary.sql("ALTER SYSTEM SET wal_sender_timeout = 0")
	primary.sql("SELECT pg_reload_conf()")
	pid, err := strconv.Atoi(s.value("SELECT pid::text FROM pg_stat_wal_receiver"))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it may have ended
	primary.awaitConfirmed(at, ms, nil)
	if got := primary.value("SELECT string_agg(state, ' ') FROM pg_stat_replication"); got != "streaming" {
		t.Errorf("the frozen receiver's walsender is %q: this shows nothing", got)
	}
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	primary.awaitConfirmed(primary.flushed(), ms, want)
}

// awaitConfirmed waits until exactly want has confirmed lsn.
func (n *node) awaitConfirmed(lsn cluster.LSN, ms, want []cluster.Member) {
	n.t.Helper()
	eventually(n.t, 30*time.Second, "confirmed by those wanted", func() bool {
		got, _, err := n.Confirmed(within(n.t), 0, lsn, ms)
		must(n.t, err)
		return slices.Equal(got, want)
	})
}

// receiveWAL runs pg_receivewal under an application_name, without a slot.
func (n *node) receiveWAL(name string) (stop func()) {
	n.t.Helper()
	dir := tempDir(n.t)
	conninfo, remove, err := n.sourceConnInfo(*n.asSource(1), n.opt.Replication, "replication", name)
	must(n.t, err)
	n.t.Cleanup(remove)
	cmd := exec.Command(testBinDir+"/pg_receivewal", "-D", dir, "--no-loop", "--no-password", "-d", conninfo)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(n.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the server ends it
		close(ended)
	}()
	return func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
}
