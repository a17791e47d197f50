package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgquorum/cluster"
)

// twoDisks are Raft and PGDATA on one, full, and a tablespace on another.
var twoDisks = []cluster.DiskStatus{
	{Uses: []cluster.DiskUse{cluster.UseRaft, cluster.UseData, cluster.UseWAL}, Dir: "/pg/raft", Free: 4096, Alarm: cluster.DiskFull, Why: "0 MB free"},
	{Uses: []cluster.DiskUse{cluster.TablespaceUse("16385")}, Dir: "/pg/data/pg_tblspc/16385", Free: 1 << 40},
}

// Each disk is in GET /patroni, its alarms are in GET /cluster, also those of other nodes, and in the metrics by use.
func TestDisksAreShown(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.edit(func(f *fakeSource) {
		f.snap.Local.Disks = twoDisks
		peers := map[cluster.NodeID]cluster.PeerView{}
		for n, p := range f.snap.Peers {
			if n == "n2" {
				p.Status.Disks = []cluster.DiskStatus{{Uses: []cluster.DiskUse{cluster.UseWAL}, Alarm: cluster.DiskHung, Why: "2s"}, {Alarm: cluster.DiskLow, Why: "900 MB free"}}
			}
			peers[n] = p
		}
		f.snap.Peers = peers
	})
	s := newTestServer(f, nil)
	own := getJSON(t, s, "/patroni").(map[string]any)["pgquorum"].(map[string]any)["disks"]
	var want any
	if err := json.Unmarshal([]byte(`[{"uses":["raft","data","wal"],"dir":"/pg/raft","free_bytes":4096,"alarm":"full","why":"0 MB free"},
		{"uses":["tablespace_16385"],"dir":"/pg/data/pg_tblspc/16385","free_bytes":1099511627776}]`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(own, want) {
		t.Errorf("/patroni has %v, want %v", own, want)
	}
	var alarms []string
	for _, m := range getJSON(t, s, "/cluster").(map[string]any)["members"].([]any) {
		alarm, _ := m.(map[string]any)["pgquorum"].(map[string]any)["disk_alarm"].(string)
		alarms = append(alarms, alarm)
	}
	if want := []string{"full: 0 MB free", "hung: 2s; low: 900 MB free", ""}; !slices.Equal(alarms, want) {
		t.Errorf("/cluster has %q, want %q", alarms, want)
	}
	text := call(t, s, http.MethodGet, "/metrics", nil).Body.String()
	for _, line := range []string{
		`pgquorum_disk_free_bytes{disk="raft",name="n1",scope="main"} 4096`,
		`pgquorum_disk_free_bytes{disk="wal",name="n1",scope="main"} 4096`,
		`pgquorum_disk_free_bytes{disk="tablespace_16385",name="n1",scope="main"} 1.099511627776e+12`,
		`pgquorum_disk_alarm{disk="data",kind="full",name="n1",scope="main"} 1`,
		`pgquorum_disk_alarm{disk="data",kind="hung",name="n1",scope="main"} 0`,
		`pgquorum_disk_alarm{disk="tablespace_16385",kind="full",name="n1",scope="main"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q; there is %q", line, regexp.MustCompile(`(?m)^pgquorum_disk.*$`).FindAllString(text, -1))
		}
	}
}

// What cannot even be looked at has an alarm under a use that may have a disk already: the metrics stay readable.
func TestDiskOfTwoPlaces(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.edit(func(f *fakeSource) {
		f.snap.Local.Disks = append([]cluster.DiskStatus{{Uses: []cluster.DiskUse{cluster.UseData}, Dir: "the data directories", Alarm: cluster.DiskHung}}, twoDisks...)
	})
	w := call(t, newTestServer(f, nil), http.MethodGet, "/metrics", nil)
	if text := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(text, `pgquorum_disk_alarm{disk="data",kind="hung",name="n1",scope="main"} 1`) {
		t.Errorf("%d: %q", w.Code, regexp.MustCompile(`(?m)^pgquorum_disk.*$`).FindAllString(text, -1))
	}
}
