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

// The codes of an ActionResult, which are HTTP's, as Patroni uses them.
const (
	ActionDone         = 200
	ActionBadRequest   = 400 // the request itself is wrong
	ActionPrecondition = 412 // it does not fit what stands
	ActionUnavailable  = 503 // it cannot be done now, or was not done
	ActionUnknown      = 504 // whether it was done is not known
)
