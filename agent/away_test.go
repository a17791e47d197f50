package agent

import (
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// C2 (ADR 0035): the time for which a node that promised is away counts from when it was first seen so, and anew after each answer.
func TestC2AwaySince(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("n2")
		n2 := c.nodes["n2"]
		n2.observe()
		n2.enter(8, "n3", promiseOf("n3", 4), nil)
		silent := func(is bool) {
			n2.fill(8, func(l *decide.TakeOver) {
				delete(l.Silent, "n3")
				if is {
					l.Silent["n3"] = "no answer"
				}
			})
		}
		lasts := func() time.Duration {
			o := n2.observe()
			a, away := o.TakeOver.Away["n3"]
			if !away {
				return -1
			}
			return o.Now.Sub(a.Since).Round(time.Millisecond)
		}
		down := func(is bool) {
			n2.fill(8, func(l *decide.TakeOver) {
				s := cluster.NodeStatus{Node: "n3", Postgres: cluster.PostgresStatus{State: cluster.PostgresRunning}}
				if is {
					s.Postgres.State = cluster.PostgresStopped
				}
				l.Statuses["n3"] = s
			})
		}
		for i, step := range []struct {
			do   func()
			want time.Duration
		}{
			{func() {}, -1},
			{func() { silent(true) }, 0},
			{func() { pass(time.Second) }, time.Second},
			{func() { silent(false) }, -1},
			{func() { silent(true) }, 0},
			{func() { pass(time.Second) }, time.Second},
			{func() { silent(false); down(true) }, 0},
			{func() { pass(time.Second) }, time.Second},
			{func() { silent(true) }, 0},
			{func() { silent(false); down(false) }, -1},
		} {
			step.do()
			if got := lasts(); got != step.want {
				t.Fatalf("step %d: away for %v, want %v", i+1, got, step.want)
			}
		}
	})
}
