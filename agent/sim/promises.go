package sim

import (
	"context"
	"fmt"
	"log/slog"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// promiseLog is an agent's log, which says when a promise is given: after all that makes one (section 6), just before the answer.
// No port of the agent sees that moment. That it is seen at all, promoted checks.
type promiseLog struct {
	slog.Handler
	h *Host
}

// Handle implements slog.Handler.
func (l promiseLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "promised" {
		r.Attrs(func(a slog.Attr) bool {
			if t, ok := a.Value.Any().(cluster.Term); ok && a.Key == "term" {
				l.h.world.promises(l.h.Name, t)
			}
			return true
		})
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l promiseLog) WithAttrs(as []slog.Attr) slog.Handler {
	return promiseLog{l.Handler.WithAttrs(as), l.h}
}

// WithGroup implements slog.Handler.
func (l promiseLog) WithGroup(name string) slog.Handler {
	return promiseLog{l.Handler.WithGroup(name), l.h}
}

// promises notes that a node answers a promise of a term, to another or to itself.
func (w *World) promises(node cluster.NodeID, t cluster.Term) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	w.history.promised[node] = max(w.history.promised[node], t)
}

// unpromised notes that a node has lost its promises, and with them the life that they were given with (V5).
func (w *World) unpromised(node cluster.NodeID) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	delete(w.history.promised, node)
}

// cannotConfirm says why a standby may send its source no confirmation now; empty: it may. After it has answered a promise of a
// term it confirms to nobody of an older one (V1, V2). How old its source is its agent has written beside it; who holds no term
// as new as that is none, unless it was named by a taker's order to catch up. It is asked before the confirmation leaves: what
// has left by then is under way, and may arrive (ADR 0033).
func (w *World) cannotConfirm(node cluster.NodeID, to agent.Source) string {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.promised[node]
	switch {
	case to.Term < p:
		return fmt.Sprintf("V2: %s confirms to %s under term %d after it has promised term %d", node, to.Node, to.Term, p)
	case !to.CatchUp && h.terms.newest[to.Node] < p:
		return fmt.Sprintf("V2: %s confirms to %s, which never held a term after %d, after it has promised term %d", node, to.Node, h.terms.newest[to.Node], p)
	}
	return ""
}
