// Package haproxy holds the sample configuration of HAProxy in front of a pgquorum cluster, so that what the demo runs
// is what users are given. README.md beside it explains each setting.
package haproxy

import _ "embed"

// Sample is haproxy.cfg: nodes n1, n2 and n3 at 10.0.0.1 to 10.0.0.3, writes on port 5000, reads on 5001.
//
//go:embed haproxy.cfg
var Sample string
