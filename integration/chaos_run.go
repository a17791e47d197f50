package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	events  *eventLog
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

// newChaosRun makes the hosts' supervisors; nothing is started.
func newChaosRun(c *Cluster, opt ChaosOptions) *chaosRun {
	r := &chaosRun{opt: opt, cluster: c, began: time.Now(), slowed: map[string]bool{}, events: newEventLog()}
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
		background.Go(func() { r.events.Watch(ctx, h) })
	}
	if err := r.cluster.WaitConverged(ctx); err != nil {
		return err
	}
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	if r.load, err = r.cluster.StartChaosLoad(loading, r.opt.Seed, r.hosts, r.sampler, &clients); err != nil {
		return err
	}
	r.wholeUsage(ctx)
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
		if step.loses() && !r.converge(ctx) {
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
