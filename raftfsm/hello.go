package raftfsm

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"pgquorum/cluster"
)

// The kinds of a connection.
const (
	kindRaft = "raft"
	kindPeer = "peer"
	kindAsk  = "ask" // the hello and its answer are all: a node that is no member yet, or no more, asks what there is
)

const (
	helloProto   = 1               // the version of what is spoken after the hello
	helloMax     = 4096            // bytes of one hello or answer
	helloTimeout = 2 * time.Second // from the connection until the hello is read and answered
)

// hello is the first message of every connection: JSON behind a length of two bytes, high byte first.
type hello struct {
	Proto     int            `json:"proto"`
	Scope     string         `json:"scope"`
	ClusterID string         `json:"cluster_id,omitempty"` // empty: the sender knows none yet
	Node      cluster.NodeID `json:"node"`
	UID       cluster.UID    `json:"uid"`
	Since     uint64         `json:"since,omitempty"` // the state in which the sender saw itself registered with this uid
	Kind      string         `json:"kind"`
	ToUID     cluster.UID    `json:"to_uid,omitempty"` // whom the sender knows under the name that it calls; empty: nobody yet
	Apply     string         `json:"apply,omitempty"`  // of kindAsk: the sender's raft address, where it wants to be taken in
}

// helloAnswer is the answer: who answered, or why the connection is refused.
type helloAnswer struct {
	OK        bool           `json:"ok"`
	Error     string         `json:"error,omitempty"`
	ClusterID string         `json:"cluster_id,omitempty"`
	Node      cluster.NodeID `json:"node,omitempty"`
	UID       cluster.UID    `json:"uid,omitempty"`
	Since     uint64         `json:"since,omitempty"` // as in hello

	Standing standing                       `json:"standing,omitempty"` // of kindAsk, as what follows
	Founders map[cluster.NodeID]cluster.UID `json:"founders,omitempty"`
}

// standing is how a node stands to the cluster.
type standing string

const (
	isNew    standing = "new"    // its store is empty, and nothing says that it ever was anything else
	isFormer standing = "former" // its store is empty, and was not
	isMember standing = "member"
)

// HelloError says that a node refused our hello, or that the node that answered is not the one asked for.
type HelloError struct {
	Reason string
}

// Error gives the reason.
func (e *HelloError) Error() string { return "hello refused: " + e.Reason }

// writeMessage sends one message of the hello.
func writeMessage(w io.Writer, msg any) error {
	body, err := json.Marshal(msg)
	if err != nil {
		return fmt.Errorf("hello: encode: %w", err)
	}
	if len(body) > helloMax {
		return fmt.Errorf("hello: want at most %d bytes, have %d", helloMax, len(body))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...))
	return err
}

// readMessage reads one message of the hello, and not a byte more.
func readMessage(r io.Reader, into any) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("hello: length: %w", err)
	}
	n := binary.BigEndian.Uint16(head[:])
	if n == 0 || n > helloMax {
		return fmt.Errorf("hello: want 1 to %d bytes, the peer announces %d", helloMax, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("hello: body of %d bytes: %w", n, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	return nil
}

// objection says why a hello to this node is refused, all but the name's uid; empty: it is not.
func (m *mux) objection(h hello) string {
	switch known := m.clusterID(); {
	case h.Proto != helloProto:
		return fmt.Sprintf("protocol version %d is not spoken by %s, which speaks %d", h.Proto, m.self, helloProto)
	case h.Scope != m.scope:
		return fmt.Sprintf("scope %q is not that of %s, which is %q", h.Scope, m.self, m.scope)
	case h.ClusterID != "" && known != "" && h.ClusterID != known:
		return fmt.Sprintf("cluster id %s is not that of %s, which is %s: same scope, another cluster", h.ClusterID, m.self, known)
	case h.Node == "" || h.UID == "":
		return "it names no node or no uid"
	case h.Kind != kindRaft && h.Kind != kindPeer && h.Kind != kindAsk:
		return fmt.Sprintf("kind %q is none of %s, %s and %s", h.Kind, kindRaft, kindPeer, kindAsk)
	case h.ToUID != "" && h.ToUID != m.uid:
		return fmt.Sprintf("node %s has uid %s, not %s", m.self, m.uid, h.ToUID)
	}
	return ""
}

// nameObjection says why a node may not bear its name with its uid: the name is this node's own, the registry has
// another uid for it, or a connection that lives was made with another. m.mu must be held.
func (m *mux) nameObjection(node cluster.NodeID, uid cluster.UID) string {
	if node == m.self {
		if uid != m.uid {
			return fmt.Sprintf("node name %s is taken by this node", node)
		}
		return ""
	}
	if why := m.stranger(node, uid); why != "" || m.known(node) == uid {
		return why
	}
	for c := range m.conns {
		if c.node == node && c.uid != "" && c.uid != uid && c.holdsName() {
			return fmt.Sprintf("node name %s is taken by the node at %s with uid %s", node, c.RemoteAddr(), c.uid)
		}
	}
	return ""
}
