package integration

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// chaosDir is where a run's report goes.
var chaosDir = filepath.Join(outDir, "chaos")

//go:embed chaos_report.html
var reportPage string

// Report writes report.html, a page that needs nothing else; run.json, what happened; history.json, what each client saw.
func (r *chaosRun) Report() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.MkdirAll(chaosDir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(chaosDir, "report.html"))
	if err != nil {
		return err
	}
	errs := []error{r.writePage(f), f.Close(), saveJSON("run.json", r.log)}
	if r.load != nil {
		errs = append(errs, saveJSON("history.json", &r.load.Ops))
	}
	return errors.Join(errs...)
}

func saveJSON(name string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(chaosDir, name), text, 0o644)
}

// page is what the template shows.
type page struct {
	Log       ChaosLog
	Began     string
	Again     string
	Picture   *picture
	Workloads []workloadTotal
	Faults    []faultTotal
	Pairs     int
}

// workloadTotal is one line of the table of operations.
type workloadTotal struct {
	Name                string
	OK, Failed, Unknown int
	Longest             time.Duration // without an acknowledgement
}

// faultTotal is one line of the table of faults.
type faultTotal struct {
	Kind       string
	Begun, Not int
}

func (r *chaosRun) writePage(to io.Writer) error {
	shown, err := template.New("report").Parse(reportPage)
	if err != nil {
		return err
	}
	p := page{
		Log: r.log, Began: r.began.UTC().Format(time.RFC1123), Again: r.again(), Picture: r.draw(),
		Workloads: r.workloadTotals(), Faults: r.faultTotals(),
	}
	for _, s := range r.log.Steps {
		if s.Second != nil {
			p.Pairs++
		}
	}
	return shown.Execute(to, p)
}

// again is the command that draws the same.
func (r *chaosRun) again() string {
	return fmt.Sprintf("make chaos MINUTES=%g SEED=%d NODES=%d", r.opt.Length.Minutes(), r.opt.Seed, r.opt.Nodes)
}

func (r *chaosRun) workloadTotals() (totals []workloadTotal) {
	if r.load == nil {
		return nil
	}
	for name, calls := range r.load.Ops.calls() {
		t := workloadTotal{Name: name}
		var acks []time.Duration
		for _, c := range calls {
			switch {
			case c.Outcome == Failed:
				t.Failed++
			case c.Outcome == Unknown:
				t.Unknown++
			case c.Client != finalClient:
				t.OK++
				acks = append(acks, c.End)
			}
		}
		slices.Sort(acks)
		for i := 1; i < len(acks); i++ {
			t.Longest = max(t.Longest, acks[i]-acks[i-1])
		}
		totals = append(totals, t)
	}
	slices.SortFunc(totals, func(a, b workloadTotal) int { return strings.Compare(a.Name, b.Name) })
	return totals
}

func (r *chaosRun) faultTotals() (totals []faultTotal) {
	byKind := map[string]*faultTotal{}
	for _, b := range r.log.Bars {
		t := byKind[b.Kind]
		if t == nil {
			t = &faultTotal{Kind: b.Kind}
			byKind[b.Kind] = t
		}
		if b.Note == "" {
			t.Begun++
		} else {
			t.Not++
		}
	}
	for _, t := range byKind {
		totals = append(totals, *t)
	}
	slices.SortFunc(totals, func(a, b faultTotal) int { return strings.Compare(a.Kind, b.Kind) })
	return totals
}

// sayTotals prints the tables.
func (r *chaosRun) sayTotals() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.workloadTotals() {
		r.opt.Say("%-10s %7d ok %6d fail %5d unknown, longest time without an acknowledgement %.2f s", t.Name, t.OK, t.Failed, t.Unknown, t.Longest.Seconds())
	}
	for _, t := range r.faultTotals() {
		r.opt.Say("%-20s %3d begun %3d not begun", t.Kind, t.Begun, t.Not)
	}
	for _, c := range r.log.Checks {
		r.opt.Say("%-34s %d violations; %s", c.Name, c.Bad, c.Result)
	}
	for _, e := range r.log.Exits {
		r.opt.Say("%s: its agent ended by itself at %.1f s: %s", e.Node, e.At.Seconds(), e.Err)
	}
	r.opt.Say("report: integration/%s; again: %s", filepath.Join(chaosDir, "report.html"), r.again())
}
