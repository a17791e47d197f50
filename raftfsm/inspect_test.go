package raftfsm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"pgquorum/cluster"
)

// usedStore is raft.data_dir of a node that was a cluster of one, with entries, and a snapshot if asked for.
func usedStore(t *testing.T, snapshot bool) string {
	t.Helper()
	p := newPrepared(t, "n1")
	p.start("n1")
	n := p.leader()
	for i := range 40 {
		if _, err := n.Apply(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
	if snapshot {
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	p.stop("n1")
	return p.dirs["n1"]
}

// overwrite puts noise into a file, from an offset to its end or for a length.
func overwrite(t *testing.T, path string, from, length int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < int64(len(data)) && i < from+length; i++ {
		data[i] = byte(i*7 + 13)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every way in which a store can be damaged is said, with the file's name, by an error and not by an end of the process; the
// store is kept under another name, and the node is a new one.
func TestDamagedStoreIsSetAside(t *testing.T) {
	t.Parallel()
	snapshotFile := func(t *testing.T, dir, name string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, storeDir, "snapshots", "*", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("snapshots %v, %v", found, err)
		}
		return found[0]
	}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir, log string)
		file  string // part of the name that is said
	}{
		{"both meta pages", func(t *testing.T, _, log string) { overwrite(t, log, 0, 8192) }, logFile},
		{"every page but the meta pages", func(t *testing.T, _, log string) { overwrite(t, log, 8192, 1<<30) }, logFile},
		{"torn: half of the file is missing", func(t *testing.T, _, log string) { truncate(t, log, 2) }, logFile},
		{"torn: a page is left", func(t *testing.T, _, log string) { truncate(t, log, 1<<40) }, logFile},
		{"the log is gone, its snapshots are not", func(t *testing.T, _, log string) { remove(t, log) }, logFile},
		{"the log is new, the snapshots are not", func(t *testing.T, _, log string) {
			remove(t, log)
			store, err := raftboltdb.NewBoltStore(log)
			if err != nil {
				t.Fatal(err)
			}
			store.Close()
		}, logFile},
		{"the newest snapshot is not what was written", func(t *testing.T, dir, _ string) {
			overwrite(t, snapshotFile(t, dir, "state.bin"), 10, 20)
		}, "snapshots"},
		{"entries are missing before the first", func(t *testing.T, dir, log string) {
			remove(t, filepath.Dir(snapshotFile(t, dir, "state.bin")))
			store, err := raftboltdb.NewBoltStore(log)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := store.DeleteRange(1, 5); err != nil {
				t.Fatal(err)
			}
		}, logFile},
		{"entries are missing in the middle, and no snapshot has them", func(t *testing.T, dir, log string) {
			remove(t, filepath.Dir(snapshotFile(t, dir, "state.bin")))
			store, err := raftboltdb.NewBoltStore(log)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := store.DeleteRange(20, 22); err != nil {
				t.Fatal(err)
			}
		}, logFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := usedStore(t, true)
			before, _, err := readIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir, filepath.Join(dir, storeDir, logFile))
			var damage *DamageError
			if used, err := inspect(filepath.Join(dir, storeDir)); !errors.As(err, &damage) || !strings.Contains(err.Error(), c.file) {
				t.Fatalf("want the damage of %s, have used %t, %v", c.file, used, err)
			}
			id, err := Prepare(dir, "", discard)
			if err != nil || id.UID == before.UID || id.Former == "" || id.Member {
				t.Errorf("identity %+v (before: %s), %v", id, before.UID, err)
			}
			if kept, err := filepath.Glob(filepath.Join(dir, storeDir+".damaged-*")); err != nil || len(kept) != 1 {
				t.Errorf("kept %v, %v", kept, err)
			}
			if again, err := Prepare(dir, "", discard); err != nil || again.UID != id.UID || again.Former == "" {
				t.Errorf("the next start: %+v, %v", again, err)
			}
		})
	}
}

func truncate(t *testing.T, path string, part int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, max(info.Size()/part, 5000))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// What is no damage keeps its place: the error says what stands, and nothing moves.
func TestSoundStoreStays(t *testing.T) {
	t.Parallel()
	t.Run("used", func(t *testing.T) {
		t.Parallel()
		dir := usedStore(t, true)
		before, _, err := readIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := Prepare(dir, "PGDATA bears an identity", discard); err != nil || id.UID != before.UID || !id.Member || id.Former != "" {
			t.Errorf("identity %+v, %v", id, err)
		}
	})
	t.Run("another agent has it", func(t *testing.T) {
		t.Parallel()
		dir := usedStore(t, false)
		store, err := raftboltdb.NewBoltStore(filepath.Join(dir, storeDir, logFile))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if _, err := Prepare(dir, "", discard); err == nil || !strings.Contains(err.Error(), "another agent") {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, storeDir, logFile)); err != nil {
			t.Error(err)
		}
	})
	for name, entry := range map[string]string{
		"another version wrote an entry": `{"v":2,"kind":"claim","body":{}}`,
		"another kind of entry":          `{"v":1,"kind":"divine","body":{}}`,
		"a field more in an entry":       `{"v":1,"kind":"count_handback","body":{"term":1,"times":2}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := usedStore(t, false)
			log := filepath.Join(dir, storeDir, logFile)
			store, err := raftboltdb.NewBoltStore(log)
			if err != nil {
				t.Fatal(err)
			}
			last, err := store.LastIndex()
			if err = errors.Join(err, store.StoreLog(&raft.Log{Index: last + 1, Term: 9, Type: raft.LogCommand, Data: []byte(entry)}), store.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Prepare(dir, "", discard); !errors.Is(err, errUnknownEntry) {
				t.Errorf("error %v", err)
			}
			if _, err := os.Stat(log); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("its identity is missing", func(t *testing.T) {
		t.Parallel()
		dir := usedStore(t, false)
		remove(t, filepath.Join(dir, identityFile))
		if _, err := Prepare(dir, "", discard); err == nil || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("its identity is unreadable", func(t *testing.T) {
		t.Parallel()
		dir := usedStore(t, false)
		overwrite(t, filepath.Join(dir, identityFile), 0, 20)
		if _, err := Prepare(dir, "", discard); err == nil || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("error %v", err)
		}
	})
}

// A uid outlives a restart before the first start is done, and not a store that it has been used with.
func TestUIDIsAsOldAsItsStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prepare := func(former string) Identity {
		t.Helper()
		id, err := Prepare(dir, former, discard)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := prepare("")
	if first.Former != "" || len(first.UID) != 32 {
		t.Errorf("first start: %+v", first)
	}
	if again := prepare(""); again.UID != first.UID || again.Former != "" {
		t.Errorf("the same start again: %+v", again)
	}
	if err := first.becomeMember(dir); err != nil {
		t.Fatal(err)
	}
	lost := prepare("")
	if lost.UID == first.UID || lost.Former == "" || lost.Member {
		t.Errorf("the store is gone: %+v", lost)
	}
	if again := prepare("PGDATA bears an identity"); again.UID != lost.UID || again.Former == "" {
		t.Errorf("still gone: %+v", again)
	}
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if known := prepare("PGDATA bears an identity"); known.Former == "" || known.UID == lost.UID {
		t.Errorf("all of raft.data_dir is gone, the data is not: %+v", known)
	}
	// Opened with a uid that was used, and nothing to show for it: refused, whoever forgot to Prepare.
	used := Identity{UID: "u", Member: true}
	if err := used.write(dir); err != nil {
		t.Fatal(err)
	}
	opt := Options{Self: "n1", UID: "u", Scope: "test", DataDir: dir, Listen: "127.0.0.1:0", Heartbeat: time.Second, Clock: cluster.Boottime, Log: discard}
	if n, err := Open(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "new uid") {
		t.Errorf("opened: %v", err)
		if err == nil {
			n.Close(t.Context())
		}
	}
}
