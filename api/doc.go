// Package api is the node's REST API: health checks for load balancers, status, history, events, metrics and actions,
// with the paths, codes and field names of Patroni 4.1, and the typed client that commands and tests use.
//
// It decides nothing. Everything that it answers comes from an immutable Snapshot in memory and from the lease of this
// very moment; an action is checked for form and authority here and then handed to the agent. Invariants:
//
//   - A health check runs no SQL, waits for nothing and allocates little: it answers while Postgres hangs or Raft has no quorum.
//   - /primary is judged when it is asked, by Snapshot.ServesPrimary at the lease and the moment of the request, so that
//     it is 503 from the fence point on (L5), however old the snapshot is. Nothing cached takes part in a code.
//   - An action that has begun is not cancelled because its client went away.
//   - No action without authority: credentials, or loopback where none are configured.
//   - Bodies, headers, connections and the time that a client may take are bounded.
package api
