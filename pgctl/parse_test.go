package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgquorum/cluster"
)

func TestParseHistory(t *testing.T) {
	t.Parallel()
	good := "1\t0/3000148\tno recovery target specified\n\n2\t1A/5000000\tbefore 2000-01-01\n"
	steps, err := parseHistory(good)
	if err != nil || !slices.Equal(steps, []step{{1, 0x3000148}, {2, 0x1A05000000}}) {
		t.Fatalf("%v, %v", steps, err)
	}
	if steps, err := parseHistory(placeholderText); err != nil || len(steps) != 0 {
		t.Fatalf("placeholder: %v, %v", steps, err)
	}
	for _, bad := range []string{"1\n", "x\t0/1\t\n", "1\t0-1\n", "2\t0/1\t\n1\t0/2\t\n", "99999999999\t0/1\n"} {
		if _, err := parseHistory(bad); !errors.Is(err, cluster.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	h := history{tli: 4, steps: steps}
	for lsn, want := range map[cluster.LSN]cluster.Timeline{1: 1, 0x3000148: 1, 0x3000149: 2, 0x1A05000000: 2, 0x1A05000001: 4} {
		if got := h.at(lsn); got != want {
			t.Errorf("WAL that ends at %v: timeline %d, want %d", lsn, got, want) // V4
		}
	}
	want := []cluster.Fork{{Timeline: 2, Parent: 1, LSN: 0x3000148}, {Timeline: 4, Parent: 2, LSN: 0x1A05000000}}
	if got := h.forks(); !slices.Equal(got, want) {
		t.Errorf("forks %+v", got)
	}
}

// F1: a timeline without WAL on the way is none of the ancestors.
func TestStepsWithWAL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		have, want []step
	}{
		{"all have some", []step{{1, 500}, {2, 900}}, []step{{1, 500}, {2, 900}}},
		{"the last has none", []step{{1, 500}, {2, 500}}, []step{{1, 500}}},
		{"left before it began", []step{{1, 500}, {2, 400}}, []step{{1, 400}}},
		{"two have none", []step{{1, 300}, {2, 500}, {4, 500}, {6, 450}}, []step{{1, 300}, {2, 450}}},
		{"left before its parent began", []step{{1, 300}, {2, 500}, {4, 200}}, []step{{1, 200}}},
		{"one in the middle has none", []step{{1, 300}, {2, 300}, {4, 700}}, []step{{1, 300}, {4, 700}}},
	} {
		if got := withWAL(slices.Clone(tt.have)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// V4: the own history is the newest descendant of which there is WAL.
func TestOwnHistory(t *testing.T) {
	t.Parallel()
	const seg = 1 << 20
	wal := func(tli cluster.Timeline, lsn cluster.LSN) string { return walFiles{segment: seg}.name(tli, lsn) }
	tests := []struct {
		name    string
		control cluster.Timeline
		files   map[string]string
		want    cluster.Timeline
	}{
		{"first", 1, nil, 1},
		{"fetched history only", 1, map[string]string{historyName(2): "1\t0/300010\tx\n"}, 1},
		{"history and WAL", 1, map[string]string{historyName(2): "1\t0/300010\tx\n", wal(2, 0x300010): ""}, 2},
		{"WAL before the fork only", 1, map[string]string{historyName(2): "1\t0/300010\tx\n", wal(2, 0x200010): ""}, 1},
		{"placeholders between", 1, map[string]string{historyName(2): placeholderText, historyName(3): "1\t0/300010\tx\n", wal(3, 0x300010): ""}, 3},
		{"no descendant", 2, map[string]string{historyName(2): "1\t0/300010\tx\n", historyName(3): "1\t0/300010\tx\n", wal(3, 0x300010): ""}, 2},
		{"control file newer than files", 5, nil, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := walFiles{dir: t.TempDir(), segment: seg, page: 8192}
			for name, text := range tt.files {
				data := []byte(text)
				if text == "" {
					data = make([]byte, seg)
				}
				must(t, os.WriteFile(filepath.Join(w.dir, name), data, 0o600))
			}
			h, err := w.ownHistory(&ControlData{Timeline: tt.control, SegmentSize: seg, PageSize: 8192})
			if err != nil || h.tli != tt.want {
				t.Errorf("timeline %d, %v, want %d", h.tli, err, tt.want)
			}
		})
	}
}

// F2: each missing number between own and allotted gets a placeholder; those above the highest real one go.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	w := walFiles{dir: t.TempDir(), segment: 1 << 20, page: 8192}
	must(t, os.WriteFile(filepath.Join(w.dir, historyName(3)), []byte("1\t0/300010\tx\n"), 0o600))
	must(t, w.addPlaceholders(1, 6))
	numbers, err := w.historyNumbers()
	if err != nil || !slices.Equal(numbers, []cluster.Timeline{2, 3, 4, 5}) {
		t.Fatalf("after adding: %v, %v", numbers, err)
	}
	must(t, w.dropPlaceholders())
	numbers, err = w.historyNumbers()
	if err != nil || !slices.Equal(numbers, []cluster.Timeline{2, 3}) {
		t.Fatalf("after dropping: %v, %v", numbers, err)
	}
	for _, allotted := range []cluster.Timeline{1, 3} {
		if err := w.addPlaceholders(1, allotted); !errors.Is(err, ErrWrongTimeline) {
			t.Errorf("allotted %d: %v", allotted, err)
		}
	}
}

// The end of a record: padding, page headers, segment headers and switches.
func TestRecordEnd(t *testing.T) {
	t.Parallel()
	w := walFiles{segment: 1 << 20, page: 8192}
	tests := []struct {
		name string
		rec  walRecord
		want cluster.LSN
	}{
		{"padded", walRecord{lsn: 0x1028, length: 114}, 0x1028 + 120},
		{"fills its page", walRecord{lsn: 0x2000 - 24, length: 24}, 0x2000},
		{"over a page", walRecord{lsn: 0x2000 - 24, length: 25}, 0x2000 + 24 + 8},
		{"over a segment", walRecord{lsn: 0x100000 - 8, length: 24}, 0x100000 + 40 + 16},
		{"over two pages", walRecord{lsn: 0x1FF8, length: 8 + 8168 + 8}, 0x4000 + 24 + 8},
		{"switch", walRecord{lsn: 0x1028, length: 24, isSwitch: true}, 0x100000},
		{"switch that fills its segment", walRecord{lsn: 0x100000 - 24, length: 24, isSwitch: true}, 0x100000},
	}
	for _, tt := range tests {
		if got := w.end(tt.rec); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestParseRecordLine(t *testing.T) {
	t.Parallel()
	line := "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/01500718, prev 0/015006D0, desc: CHECKPOINT_SHUTDOWN redo 0/1500718;"
	rec, ok := parseRecordLine(line)
	if want := (walRecord{lsn: 0x1500718, prev: 0x15006D0, length: 114}); !ok || rec != want {
		t.Fatalf("%+v, %v", rec, ok)
	}
	for _, bad := range []string{"", "first record is after 0/1, at 0/2, skipping over 1 bytes", "rmgr: XLOG", line[:100], " " + line} {
		if rec, ok := parseRecordLine(bad); ok {
			t.Errorf("%q: %+v", bad, rec)
		}
	}
}

func TestChildNames(t *testing.T) {
	t.Parallel()
	for title, want := range map[string][3]bool{ // receiver, unsure, startup
		"postgres: walreceiver streaming 0/5":                             {true, false, false},
		"postgres: 15/main: walreceiver":                                  {true, false, false},
		"postgres: startup recovering 000000010000000000000001":           {false, false, true},
		"postgres: 15/main: startup waiting for 000000010000000000000001": {false, false, true},
		"postgres: walsender replicator 127.0.0.1(5) streaming 0/5":       {false, false, false},
		"/usr/lib/postgresql/15/bin/postgres -D /data -c port=5432":       {false, true, false},
		"": {false, false, false},
	} {
		c := child{title: title}
		is, unsure := c.isReceiver()
		if got := [3]bool{is, unsure, c.isStartup()}; got != want {
			t.Errorf("%q: %v, want %v", title, got, want)
		}
	}
}
