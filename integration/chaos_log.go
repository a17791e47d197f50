package integration

import (
	"context"
	"fmt"
	"time"
)

// ChaosLog is what happened, as it is written beside the report.
type ChaosLog struct {
	Seed       uint64        `json:"seed"`
	Nodes      []string      `json:"nodes"`
	Length     time.Duration `json:"length"`
	Steps      []Step        `json:"steps"`
	Bars       []Bar         `json:"faults"`
	Converged  []Converged   `json:"converged"`
	Remarks    []Remark      `json:"remarks"`
	Exits      []AgentExit   `json:"exits"`
	Samples    []Sample      `json:"samples"`
	Leaks      []Usage       `json:"usage"`
	Events     []timedEvent  `json:"events"`
	Violations []Violation   `json:"violations"`
	Checks     []CheckResult `json:"checks"`
	Excluded   int           `json:"excluded_reads"` // reads that rest on no promise
}

// Bar is a fault as it was.
type Bar struct {
	Fault string        `json:"fault"`
	Kind  string        `json:"kind"`
	Hosts []string      `json:"hosts"`
	Start time.Duration `json:"start"`
	End   time.Duration `json:"end"`
	Note  string        `json:"note,omitempty"` // why it was not begun
}

// Converged is one wait for a whole cluster.
type Converged struct {
	Since time.Duration `json:"since"` // the end of the last fault
	Took  time.Duration `json:"took"`
	Err   string        `json:"err,omitempty"`
}

// Remark is a line of the run's log.
type Remark struct {
	At   time.Duration `json:"at"`
	Text string        `json:"text"`
}

// CheckResult is one line of the report's table of checks.
type CheckResult struct {
	Name   string `json:"name"`
	Bound  string `json:"bound"` // what was held against what, and why so much
	Result string `json:"result"`
	Bad    int    `json:"violations"`
}

// event notes a line in the run's log.
func (r *chaosRun) event(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := Remark{r.now(), fmt.Sprintf(format, args...)}
	r.log.Remarks = append(r.log.Remarks, e)
	r.opt.Say("%7.1f s  %s", e.At.Seconds(), e.Text)
}

func (r *chaosRun) violate(v Violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Violations = append(r.log.Violations, v)
	r.opt.Say("%7.1f s  VIOLATION %s", r.now().Seconds(), v)
}

func (r *chaosRun) noteBar(bar Bar) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Bars = append(r.log.Bars, bar)
}

// progressEvery is how often a line says how it goes.
const progressEvery = 10 * time.Second

func (r *chaosRun) progress(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var before int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		acked := r.load.acked.Load()
		primary := r.sampler.Serving()
		if primary == "" {
			primary = "none"
		}
		r.mu.Lock()
		faults := len(r.log.Bars)
		bad := len(r.log.Violations)
		r.mu.Unlock()
		r.opt.Say("%7.1f s of %s  primary %s, term %d; %d operations acknowledged, %d a second; %d faults ended, %d violations",
			r.now().Seconds(), r.opt.Length, primary, r.sampler.Term(), acked, (acked-before)/int64(progressEvery/time.Second), faults, bad)
		before = acked
	}
}
