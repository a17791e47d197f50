package decide

import "pgquorum/cluster"

// Action is what to do: one small function of the agent each.
type Action string

// The actions.
const (
	None         Action = "none"          // nothing to do
	Wait         Action = "wait"          // something is missing; Detail says what and for whom
	Fence        Action = "fence"         // make sure that the local Postgres acknowledges nothing more: guard.fence(Term)
	Barrier      Action = "barrier"       // K1
	AskStatus    Action = "ask_status"    // K2, with attests
	HandBack     Action = "hand_back"     // K3: transfer leadership to Node, counted
	AskPromises  Action = "ask_promises"  // K4, with attests
	CatchUp      Action = "catch_up"      // C2: the candidate Node streams from Source first
	Transfer     Action = "transfer"      // K6: leadership to the chosen Node
	Acquire      Action = "acquire"       // K7
	Claim        Action = "claim"         // first start: take the right to run initdb
	InitDB       Action = "initdb"        // first start
	SetSystemID  Action = "set_system_id" // first start: record what initdb made
	Register     Action = "register"      // enter this node into the registry
	StartStandby Action = "start_standby" // with Source, or without any (read-only, cut)
	StartPrimary Action = "start_primary" // restart in place, or the first start (C3)
	Promote      Action = "promote"       // through the guard
	Thaw         Action = "thaw"          // let a frozen primary go on, under the live lease of Term (U6)
	Follow       Action = "follow"        // another source, reload only
	StopPostgres Action = "stop_postgres" // fast, with a deadline
	Clone        Action = "clone"         // basebackup from Source
	Rewind       Action = "rewind"        // pg_rewind from Source
	ClaimData    Action = "claim_data"    // give an unclaimed directory of this cluster an incarnation
	HandOver     Action = "hand_over"     // fence, release the key, let the take-over choose another (B1)
	Switchover   Action = "switchover"    // B1, planned
	ChangeRule   Action = "change_rule"   // S2 step 1 (and 4 at once where it may)
	SettleRule   Action = "settle_rule"   // S2 steps 2 to 4, S4
	RecordFork   Action = "record_fork"   // F1

	// Of Disk (B2) and Stuck only: the loop never sees them.
	CloseTransport Action = "close_transport" // Raft's, for good, so that another is elected
	EndAgent       Action = "end_agent"       // so that it is started anew

	// Of Membership only: the loop never sees them.
	RemoveServer Action = "remove_server" // Node's former server leaves Raft's configuration
	Readmit      Action = "readmit"       // Node's name goes to the uid that asks for it
	AddServer    Action = "add_server"    // Node gets Raft's log, without a vote
	GiveVote     Action = "give_vote"     // Node becomes a voter once its log has caught up
)

// Asks says whether an action waits for something or asks whether it has come: while a cluster waits for a node, perhaps for
// days, these take turns.
func (a Action) Asks() bool { return a == Wait || a == AskStatus || a == AskPromises }

// Decision is one action, its reason and what it needs.
type Decision struct {
	Action  Action
	Reason  Reason
	Detail  string // for people: names, numbers
	Node    cluster.NodeID
	Source  cluster.NodeID
	Term    cluster.Term
	Acquire cluster.AcquireLeader
	Rule    RuleChange
	Life    cluster.Incarnation // Clone: the life that the copy goes on with; empty: a new one
	Joins   cluster.Applicant   // of Membership: who is taken in
	Wake    cluster.Instant     // look again at this moment; zero: at the next event
}

// Reason is why, in a fixed vocabulary.
type Reason string

// The reasons.
const (
	ReasonLeaseLost        Reason = "primary without a live lease"
	ReasonWrongTimeline    Reason = "primary on a timeline that was not allotted to this term"
	ReasonLeftToGuard      Reason = "the lease has just run out: the guard freezes or ends the primary"
	ReasonFrozen           Reason = "primary frozen: no quorum has answered since"
	ReasonThaw             Reason = "primary frozen, the key still this node's: acquire again in place"
	ReasonHolderFrozen     Reason = "key holder's primary is frozen and can go on at once: leadership goes back to it"
	ReasonNotHolder        Reason = "primary while the key names another node"
	ReasonNewLeader        Reason = "leader of a new raft term"
	ReasonHolderUnknown    Reason = "key holder is not this node: ask all"
	ReasonHolderWell       Reason = "key holder has a live lease: leadership goes back to it"
	ReasonHolderSooner     Reason = "key holder comes back sooner than another could take over: leadership goes back to it"
	ReasonPromises         Reason = "promises of the next term are missing"
	ReasonLeaseNotOver     Reason = "the holder's lease may still be alive"
	ReasonNoCandidate      Reason = "no candidate satisfies the recorded sync rules"
	ReasonBetterCandidate  Reason = "another node is the better candidate"
	ReasonBestCandidate    Reason = "this node is the best candidate"
	ReasonBehind           Reason = "the node with the highest position may not be promoted: the candidate streams from it"
	ReasonHigherPromise    Reason = "a promise above the key's term: acquire again in place"
	ReasonFirstStart       Reason = "no member has a data directory"
	ReasonClaimant         Reason = "another node holds the claim to the first data"
	ReasonMembersMissing   Reason = "not every initial member has answered"
	ReasonForeignData      Reason = "data directory belongs to another cluster"
	ReasonNotRegistered    Reason = "registry differs from this node"
	ReasonKeyHeld          Reason = "key held under a live lease"
	ReasonCrashed          Reason = "postgres is gone while the lease is alive"
	ReasonHung             Reason = "postgres does not answer"
	ReasonStandbyReady     Reason = "a standby is ready and holds everything"
	ReasonStandbySooner    Reason = "a standby takes over sooner than redo would end"
	ReasonUnread           Reason = "the end of this node's WAL is still being looked for"
	ReasonNoStandby        Reason = "no standby could take over sooner"
	ReasonResume           Reason = "the switchover did not come to pass: the same primary starts again"
	ReasonCannotPromote    Reason = "promotion did not succeed"
	ReasonNoWatchdog       Reason = "a watchdog is required and cannot be used"
	ReasonHandedOver       Reason = "another node is taking over: this one starts when it knows where to stream from"
	ReasonCannotVouch      Reason = "this node held the key and cannot vouch for its own postgres"
	ReasonStopped          Reason = "postgres is not running"
	ReasonSource           Reason = "source differs from the key's holder"
	ReasonDiverged         Reason = "own WAL has left the history of the key's timeline"
	ReasonRewindBroken     Reason = "an earlier rewind did not end"
	ReasonRewindImpossible Reason = "rewind did not succeed: a new copy beside the old directory"
	ReasonRemoved          Reason = "the source has removed the WAL that this node needs next"
	ReasonNoData           Reason = "no data directory"
	ReasonInRule           Reason = "own data counts in a recorded sync rule"
	ReasonHeld             Reason = "own data counts in a sync rule that cannot be settled without it: a copy goes on with its life"
	ReasonRuleDiffers      Reason = "sync rule differs from the wanted one"
	ReasonRuleUnsettled    Reason = "older sync rules are still recorded"
	ReasonForkUnrecorded   Reason = "fork of an allotted timeline is not recorded"
	ReasonCannotWrite      Reason = "this node cannot write"
	ReasonDiskFull         Reason = "this node's disk has too little room"
	ReasonWritesAgain      Reason = "this node writes again, and its raft transport is closed: the agent ends, to be started anew"
	ReasonRaftStuck        Reason = "this node leads raft and can propose nothing: the agent ends, to be started anew"
	ReasonRequested        Reason = "asked for by an operator"
	ReasonJob              Reason = "an action is still running"
	ReasonApplies          Reason = "it has lost its raft store, or is new, and asks to be taken in"
	ReasonNameLives        Reason = "another node of that name answers"
	ReasonNotMember        Reason = "this node is not a member yet"
	ReasonRetry            Reason = "the last try did not succeed: waiting before the next"
)
