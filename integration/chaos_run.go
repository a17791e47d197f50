package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// ChaosOptions say how long and with which draw.
type ChaosOptions struct {
	Length time.Duration
	Seed   uint64
	Nodes  int
	Say    func(format string, args ...any)
}

// chaosRun is one run: a cluster, its clients, and the faults that befall it.
type chaosRun struct {
	opt     ChaosOptions
	cluster *Cluster
	hosts   []*chaosHost
	sampler *Sampler
	load    *ChaosLoad
	began   time.Time
	clocks  bool // wall clocks can be set

	mu       sync.Mutex
	log      ChaosLog
	layers   int
	slowed   map[string]bool
	stale    []window
	faulting sync.WaitGroup // faults that have not ended
}

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

// window is a time in which a node's reads rest on no promise.
type window struct {
	node       string
	start, end time.Duration
}

// CheckResult is one line of the report's table of checks.
type CheckResult struct {
	Name   string `json:"name"`
	Bound  string `json:"bound"` // what was held against what, and why so much
	Result string `json:"result"`
	Bad    int    `json:"violations"`
}

// staleGrace is how long a guard that was paused may take to fence, on a busy machine.
const staleGrace = time.Second

// newChaosRun makes the hosts' supervisors; nothing is started.
func newChaosRun(c *Cluster, opt ChaosOptions) *chaosRun {
	r := &chaosRun{opt: opt, cluster: c, began: time.Now(), slowed: map[string]bool{}}
	r.sampler = NewSampler(r.now)
	r.log.Seed, r.log.Length = opt.Seed, opt.Length
	for _, h := range c.Nodes() {
		client := &http.Client{Transport: &http.Transport{DialContext: h.ns.Dial}}
		r.hosts = append(r.hosts, &chaosHost{Host: h, http: client})
		r.log.Nodes = append(r.log.Nodes, h.Name)
	}
	return r
}

// Run plays the whole run. Its error is the harness's; what the cluster did wrong stands in the log.
func (r *chaosRun) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var background, clients sync.WaitGroup
	stop := sync.OnceFunc(func() { cancel(); clients.Wait(); background.Wait(); r.faulting.Wait() })
	defer stop()
	switch err := r.cluster.prepareClocks(ctx); {
	case err == nil:
		r.clocks = true
	case errors.Is(err, errNoCompiler):
		r.event("%v", err)
	default:
		return err
	}
	broken := make(chan error, len(r.hosts))
	for _, h := range r.hosts {
		background.Go(func() {
			if err := h.supervise(ctx, r.now); err != nil {
				broken <- err
			}
		})
		background.Go(func() { r.sampler.Watch(ctx, h) })
	}
	if err := r.cluster.WaitConverged(ctx); err != nil {
		return err
	}
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	if r.load, err = r.cluster.StartChaosLoad(loading, r.opt.Seed, r.hosts, r.sampler, &clients); err != nil {
		return err
	}
	background.Go(func() { r.watchUsage(ctx) })
	background.Go(func() { r.progress(ctx) })
	if err := r.play(ctx, broken); err != nil {
		return err
	}
	stopLoad()
	clients.Wait()
	return r.finish(ctx)
}

func (r *chaosRun) now() time.Duration { return time.Since(r.began) }

func (r *chaosRun) layer() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers++
	return fmt.Sprintf("fault-%d", r.layers)
}

// ports are all that a host has a wire to: the other nodes, and the clients.
func (r *chaosRun) ports(host string) (ports []string) {
	for _, h := range r.hosts {
		if h.Name != host {
			ports = append(ports, h.Name)
		}
	}
	return append(ports, "client")
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

// play injects faults until the time is over, and leaves a whole cluster, or one that did not become whole.
func (r *chaosRun) play(ctx context.Context, broken <-chan error) error {
	draw := NewDraw(r.opt.Seed, len(r.hosts))
	until := r.now() + r.opt.Length
	for r.now() < until {
		select {
		case err := <-broken:
			return err
		default:
		}
		step := draw.Next()
		r.log.Steps = append(r.log.Steps, step)
		if step.First.Kind == faultLoseData && !r.converge(ctx) {
			return nil
		}
		if err := r.step(ctx, step); err != nil {
			return err
		}
		if step.Converge && !r.converge(ctx) {
			return nil
		}
		pauseFor(ctx, step.Rest)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	r.converge(ctx)
	return nil
}

// step plays one fault or a pair, to its end.
func (r *chaosRun) step(ctx context.Context, s Step) error {
	term := r.sampler.Term()
	ended := make(chan error, 2)
	running := 1
	r.faulting.Go(func() { ended <- r.fault(ctx, s.First) })
	if s.Second != nil {
		r.awaitTransition(ctx, s, term)
		running++
		r.faulting.Go(func() { ended <- r.fault(ctx, *s.Second) })
	}
	var errs []error
	for range running {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// transitionTime bounds the wait for a change of the primary that the first fault may not bring.
const transitionTime = 5 * time.Second

// awaitTransition waits for the moment of a pair's second fault.
func (r *chaosRun) awaitTransition(ctx context.Context, s Step, term uint64) {
	if !s.OnChange {
		pauseFor(ctx, s.After)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, transitionTime)
	defer cancel()
	_ = until(ctx, 5*time.Millisecond, func() error { // without a change the second fault comes then
		if r.sampler.Term() == term {
			return errors.New("no other term")
		}
		return nil
	})
}

// fault is one fault from its beginning to its end.
func (r *chaosRun) fault(ctx context.Context, f Fault) error {
	bar := Bar{Fault: f.String(), Kind: f.Kind, Start: r.now()}
	b, err := r.inject(ctx, f)
	for _, h := range b.hosts {
		bar.Hosts = append(bar.Hosts, h.Name)
	}
	if errors.Is(err, errNotBegun) {
		bar.Note, bar.End = err.Error(), r.now()
		r.noteBar(bar)
		r.event("%s: %v", f, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f, err)
	}
	r.event("%s: begins on %v", f, bar.Hosts)
	if !f.instant() {
		pauseFor(ctx, f.Length)
	}
	if b.end != nil {
		err = b.end()
	}
	bar.End = r.now()
	r.noteBar(bar)
	if !f.instant() {
		r.event("%s: ended on %v", f.Kind, bar.Hosts)
	}
	if b.stale {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stale = append(r.stale, window{bar.Hosts[0], bar.Start, bar.End + staleGrace})
	}
	return err
}

func (r *chaosRun) noteBar(bar Bar) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Bars = append(r.log.Bars, bar)
}

// converge waits for a whole cluster: one primary, all others streaming, commits on as many nodes as there should be, one
// rule. It must come within settleTime of the last fault.
func (r *chaosRun) converge(ctx context.Context) bool {
	since := r.now()
	bounded, cancel := context.WithTimeoutCause(ctx, settleTime, errNotSettled)
	defer cancel()
	said := since
	err := until(bounded, 100*time.Millisecond, func() error {
		err := r.cluster.Converged(bounded, r.cluster.Nodes()...)
		if err == nil {
			err = r.fullRule(bounded)
		}
		if err != nil && r.now()-said > progressEvery {
			said = r.now()
			r.event("not whole after %.0f s: %v", (said - since).Seconds(), err)
		}
		return err
	})
	result := Converged{Since: since, Took: r.now() - since}
	if err != nil {
		result.Err = err.Error()
		r.violate(Violation{"converges", since, err.Error()})
	} else {
		r.event("whole again after %.1f s", result.Took.Seconds())
	}
	r.mu.Lock()
	r.log.Converged = append(r.log.Converged, result)
	r.mu.Unlock()
	if err == nil {
		r.sweepKept()
	}
	return err == nil
}

func (r *chaosRun) fullRule(ctx context.Context) error {
	p, err := r.cluster.Primary(ctx)
	if err != nil {
		return err
	}
	s, err := r.cluster.Status(ctx, p)
	if sync := s.Pgquorum.Sync; err == nil && sync.K < sync.KFull {
		return fmt.Errorf("%s: commits on %d of %d standbys", p.Name, sync.K, sync.KFull)
	}
	return err
}

func (r *chaosRun) sweepKept() {
	for _, h := range r.hosts {
		n, err := h.sweepKept()
		if err != nil {
			r.event("%s: what was kept aside stays: %v", h.Name, err)
		} else if n > 0 {
			r.event("%s: removed %d directories that rewinds and clones kept aside", h.Name, n)
		}
	}
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

// unsettled gives the times in which a node was shown as the primary before its sync rule was settled, as S4 allows when a
// second is over: rows may be read that vanish with it.
func unsettled(events []timedEvent, began time.Time) (windows []window) {
	for i, e := range events {
		if e.Type != "shown_unsettled" {
			continue
		}
		at := e.Time.Sub(began)
		w := window{e.Node, at - staleGrace, forever}
		for _, later := range events[i+1:] {
			if later.Type == "leader_acquired" || later.Type == "sync_rules_dropped" && later.Term == e.Term {
				w.end = later.Time.Sub(began) + staleGrace
				break
			}
		}
		windows = append(windows, w)
	}
	return windows
}

// provenReads leaves out the reads that rest on no promise: those that a paused guard's Postgres answered, since P1
// promises reads only where the guard is scheduled, and those before a shown primary's rule was settled (S4).
func provenReads[T any](ops []T, call func(T) Call, reads func(T) bool, stale []window) (proven []T, excluded int) {
	for _, op := range ops {
		c := call(op)
		if reads(op) && slices.ContainsFunc(stale, func(w window) bool { return w.node == c.Node && c.Start < w.end && c.End > w.start }) {
			excluded++
			continue
		}
		proven = append(proven, op)
	}
	return proven, excluded
}
