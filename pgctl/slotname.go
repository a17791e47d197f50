package pgctl

import (
	"fmt"
	"strings"

	"pgquorum/cluster"
)

// maxSlotName is NAMEDATALEN-1: the longest name of a replication slot, in bytes.
const maxSlotName = 63

// SlotName folds a node's name into the name of its replication slot, as Patroni does: lower case, '-' and '.' become
// '_', any other character that a slot name cannot hold becomes 'u' and its code point in at least four decimal
// digits, and the result is cut at 63 bytes. Two nodes may fold to one name; the config check refuses that.
// Source: slot_name_from_member_name, patroni/dcs/__init__.py, Patroni 4.
func SlotName(node cluster.NodeID) string {
	var b strings.Builder
	for _, r := range strings.ToLower(string(node)) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case r == '-' || r == '.':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "u%04d", r)
		}
	}
	s := b.String()
	return s[:min(len(s), maxSlotName)]
}
