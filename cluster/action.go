package cluster

// SwitchoverRequest asks for a planned move of the primary. Leader must name the present one, so that a late or
// repeated request does nothing; Candidate may be empty.
type SwitchoverRequest struct {
	Leader    NodeID `json:"leader"`
	Candidate NodeID `json:"candidate,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// ActionResult is the answer to an action, as the API gives it: an HTTP code and a text for the operator that says
// what was asked, what stands, and what to do.
type ActionResult struct {
	Code   int    `json:"code"`
	Text   string `json:"text"`
	Leader NodeID `json:"leader,omitempty"` // the new leader, when done
}
