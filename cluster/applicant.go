package cluster

import "time"

// Applicant is a node without a Raft store that asks to be taken in under a known name.
type Applicant struct {
	Node     NodeID
	UID      UID
	RaftAddr string
	For      time.Duration // since it first asked under this uid
	Other    string        // who bears the name with another uid, and answers; empty: nobody
}
