package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Sample is what a node said of itself, asked from its own host, so that no cut hides it.
type Sample struct {
	Node     string        `json:"node"`
	Start    time.Duration `json:"start"`
	End      time.Duration `json:"end"`
	Code     int           `json:"code"` // of GET /primary; 0: no answer
	Role     string        `json:"role,omitempty"`
	State    string        `json:"state,omitempty"`
	Streams  bool          `json:"streams,omitempty"`
	Timeline int           `json:"timeline,omitempty"`
	Term     uint64        `json:"term,omitempty"`
	LeaseMS  int64         `json:"lease_ms,omitempty"`
	Raft     string        `json:"raft,omitempty"`
	K        int           `json:"k"`
	KFull    int           `json:"k_full"`
	Phase    string        `json:"phase,omitempty"`
}

// Shown is the sample in one word, as the report draws it.
func (s Sample) Shown() string {
	switch {
	case s.Code == http.StatusOK:
		return "primary"
	case s.Code == 0:
		return "silent"
	case s.Role == "primary" && s.State == "running":
		return "closed" // it is one, and not shown to clients
	case s.Streams:
		return "standby"
	case s.State == "running":
		return "detached"
	}
	return "down"
}

const (
	samplePeriod = 100 * time.Millisecond
	keptPeriod   = 500 * time.Millisecond // a sample that says the same is kept this often
)

// Sampler asks all nodes, and knows who is primary.
type Sampler struct {
	now func() time.Duration

	mu   sync.Mutex
	last map[string]Sample
	kept []Sample
	yes  []Sample // each answer 200
}

// NewSampler makes one for a run's clock.
func NewSampler(now func() time.Duration) *Sampler {
	return &Sampler{now: now, last: map[string]Sample{}}
}

// Watch asks one node until ctx ends.
func (s *Sampler) Watch(ctx context.Context, h *chaosHost) {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for ctx.Err() == nil {
		s.note(ask(ctx, h, s.now))
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// ask gets one sample.
func ask(ctx context.Context, h *chaosHost, now func() time.Duration) Sample {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sample := Sample{Node: h.Name, Start: now()}
	code, body, err := get(ctx, h.http, h.Addr, "/primary")
	sample.End = now()
	var st Status
	if err != nil || json.Unmarshal(body, &st) != nil {
		return sample
	}
	own := st.Pgquorum
	sample.Code, sample.Role, sample.State, sample.Timeline = code, st.Role, st.State, st.Timeline
	sample.Streams = st.ReplicationState == "streaming"
	sample.Term, sample.LeaseMS, sample.Raft, sample.Phase = own.Term, own.LeaseMS, own.Raft.State, own.Phase
	sample.K, sample.KFull = own.Sync.K, own.Sync.KFull
	return sample
}

func get(ctx context.Context, client *http.Client, addr, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+":8008"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func (s *Sampler) note(sample Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[sample.Node] = sample
	if sample.Code == http.StatusOK {
		s.yes = append(s.yes, sample)
	}
	for _, k := range slices.Backward(s.kept) {
		if k.Node != sample.Node {
			continue
		}
		if sample.Start-k.Start < keptPeriod && k.Shown() == sample.Shown() && k.Term == sample.Term && (k.LeaseMS > 0) == (sample.LeaseMS > 0) {
			return
		}
		break
	}
	s.kept = append(s.kept, sample)
}

// Primary names the node that was last shown to clients as the primary; empty before the first.
func (s *Sampler) Primary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.yes); n > 0 {
		return s.yes[n-1].Node
	}
	return ""
}

// Serving names the node that shows itself to clients as the primary now; empty: none does.
func (s *Sampler) Serving() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best Sample
	for _, sample := range s.last {
		if sample.Code == http.StatusOK && sample.Term >= best.Term {
			best = sample
		}
	}
	return best.Node
}

// Term is the highest term that any node has named.
func (s *Sampler) Term() (term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sample := range s.last {
		term = max(term, sample.Term)
	}
	return term
}

// Samples gives those kept and each answer 200.
func (s *Sampler) Samples() (kept, yes []Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept), slices.Clone(s.yes)
}

// CheckShown says whether two nodes were shown as the primary: in one term, or an older term's after a newer one's. An
// answer belongs to a moment between its question and itself.
func CheckShown(yes []Sample) (found []Violation) {
	type first struct {
		node string
		end  time.Duration
	}
	terms := map[uint64]first{}
	for _, s := range yes {
		f, known := terms[s.Term]
		if known && f.node != s.Node {
			found = append(found, Violation{"primary: two in a term", s.Start, fmt.Sprintf("term %d: /primary was 200 on %s and, at %.3f s, on %s", s.Term, f.node, s.Start.Seconds(), s.Node)})
			continue
		}
		if !known || s.End < f.end {
			terms[s.Term] = first{s.Node, s.End}
		}
	}
	for _, s := range yes {
		for term, f := range terms {
			if term > s.Term && f.node != s.Node && f.end < s.Start {
				found = append(found, Violation{"primary: an older one", s.Start, fmt.Sprintf("/primary was 200 on %s in term %d at %.3f s, after it was on %s in term %d at %.3f s",
					s.Node, s.Term, s.Start.Seconds(), f.node, term, f.end.Seconds())})
			}
		}
	}
	return found
}
