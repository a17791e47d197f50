package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// requestTimeout bounds one call of the API; actions such as a switchover may take longer.
const (
	requestTimeout = time.Second
	actionTimeout  = 60 * time.Second
)

// Status is what the scenarios read of GET /patroni.
type Status struct {
	State            string `json:"state"`
	Role             string `json:"role"`
	Timeline         int    `json:"timeline"`
	ReplicationState string `json:"replication_state"`
	Pgquorum         struct {
		ClusterID string `json:"cluster_id"`

		Term    uint64 `json:"term"`
		LeaseMS int64  `json:"lease_ms"` // until the fence point
		Raft    struct {
			State  string `json:"state"`
			Leader string `json:"leader"`
		} `json:"raft"`
		Sync struct {
			K     int `json:"k"`
			KFull int `json:"k_full"`
			Rules int `json:"rules"` // more than one while they change
		} `json:"sync"`
		Phase string `json:"phase"`
	} `json:"pgquorum"`
}

// Member is one member in GET /cluster.
type Member struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Timeline int    `json:"timeline"`
	Pgquorum struct {
		Phase string `json:"phase"`
	} `json:"pgquorum"`
}

// Event is one entry of GET /events.
type Event struct {
	ID     uint64 `json:"id"`
	Type   string `json:"type"`
	Node   string `json:"node"`
	Term   uint64 `json:"term"`
	Detail string `json:"detail"`
}

// Code is the status code of a health check, asked by the client host.
func (c *Cluster) Code(ctx context.Context, h *Host, path string) (int, error) {
	code, _, err := c.call(ctx, http.MethodGet, h, path, nil)
	return code, err
}

// Status asks a node for its status.
func (c *Cluster) Status(ctx context.Context, h *Host) (s Status, err error) {
	return s, c.read(ctx, h, "/patroni", &s)
}

// Members asks a node how it sees the cluster.
func (c *Cluster) Members(ctx context.Context, h *Host) ([]Member, error) {
	var answer struct {
		Members []Member `json:"members"`
	}
	err := c.read(ctx, h, "/cluster", &answer)
	return answer.Members, err
}

// Events asks a node for the cluster's log.
func (c *Cluster) Events(ctx context.Context, h *Host) (events []Event, err error) {
	return events, c.read(ctx, h, "/events", &events)
}

// Post sends an action and gives the answer's code and text.
func (c *Cluster) Post(ctx context.Context, h *Host, path string, body any) (int, string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	code, answer, err := c.call(ctx, http.MethodPost, h, path, text)
	return code, string(bytes.TrimSpace(answer)), err
}

func (c *Cluster) read(ctx context.Context, h *Host, path string, into any) error {
	code, body, err := c.call(ctx, http.MethodGet, h, path, nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s: GET %s: %d: %s", h.Name, path, code, bytes.TrimSpace(body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: GET %s: %w: %s", h.Name, path, err, body)
	}
	return nil
}

func (c *Cluster) call(ctx context.Context, method string, h *Host, path string, body []byte) (int, []byte, error) {
	if method == http.MethodGet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s:8008%s", h.Addr, path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(apiUser, apiPassword)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
