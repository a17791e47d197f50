package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pgquorum/cluster"
	"pgquorum/config"
	"pgquorum/pgctl"
	"pgquorum/raftfsm"
)

type recoverOptions struct {
	env           environment
	file          string
	lost          []string
	dryRun, force bool
}

func newRecoverCommand(env environment) *cobra.Command {
	o := recoverOptions{env: env, file: config.DefaultPath}
	cmd := &cobra.Command{
		Use:   "recover [FILE]",
		Short: "Let one node go on alone, after the quorum is lost for good",
		Long: `Let this node go on alone, as a cluster of one, when a majority of the voters is lost for good.

It gives up acknowledged commits that only the lost nodes had, and says which those may be. Run it on one surviving node,
the one whose data ends furthest (--dry-run shows where it ends), as the agent's user, while no agent runs there. All other
nodes must be off. They come back as new members: move raft.data_dir/raft away on each, then start its agent; its data is
not copied again where it still fits. A node that was not emptied so is refused by its cluster id.

It shows what this node knows, and asks twice, unless --force and --lost are given. The Raft store as it was is kept.`,
		Example: `  pgquorum recover --dry-run
  pgquorum recover /etc/pgquorum/pgquorum.yml
  pgquorum recover --lost n1,n2 --force`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what this node knows and what would be given up, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask; --lost must then name every other member")
	cmd.Flags().StringSliceVar(&o.lost, "lost", nil, "`NAMES` of the nodes that are given up, all but this one")
	return cmd
}

// survivor is what stands on this node.
type survivor struct {
	conf    *config.Config
	remains raftfsm.Remains
	data    pgctl.Left
	adopt   func(cluster.Member) error
	others  []string // every other member
}

func (o *recoverOptions) run(ctx context.Context) error {
	if !o.force && !o.dryRun && !o.env.InTerminal {
		return usage("recover: nobody to ask, because the input is no terminal: give --force with --lost, or --dry-run")
	}
	if os.Geteuid() == 0 {
		return errors.New("recover: started as root: run it as the agent's user, who must be able to read what it writes")
	}
	s, err := o.look(ctx)
	if err != nil {
		return err
	}
	if o.force && len(o.lost) == 0 && len(s.others) > 0 {
		return usage("recover: --force needs --lost with every other member: %s", strings.Join(s.others, ","))
	}
	if given := slices.Sorted(slices.Values(o.lost)); len(given) > 0 && !slices.Equal(given, s.others) {
		return usage("recover: --lost names %s; the cluster goes on from this node alone, which gives up %s", strings.Join(given, ", "), strings.Join(s.others, ", "))
	}
	o.show(s)
	if err := o.obstacle(ctx, s); err != nil || o.dryRun {
		return err
	}
	if !o.force {
		if err := o.confirm(ctx, s); err != nil {
			return err
		}
	}
	return o.recover(s)
}

// look reads the store and the data of this node; a running agent, which has the store open, is an error.
func (o *recoverOptions) look(ctx context.Context) (*survivor, error) {
	c, _, err := config.Load(o.file, o.env.Env)
	if err != nil {
		return nil, err
	}
	s := &survivor{conf: c}
	if s.remains, err = raftfsm.ReadRemains(c.Raft.DataDir, c.Scope); err != nil {
		return nil, fmt.Errorf("recover: %w; nothing was changed", err)
	}
	log := newLogger(o.env.Err, c.Log, c.Name)
	postgres := pgctl.New(pgctl.Options{Self: cluster.NodeID(c.Name), DataDir: c.PostgreSQL.DataDir, BinDir: c.PostgreSQL.BinDir,
		GuardDir: filepath.Join(c.Raft.DataDir, "guard"), Superuser: credentials(c.PostgreSQL.Authentication.Superuser),
		Clock: cluster.Boottime, Log: log}, nil)
	s.adopt = postgres.Adopt
	postgres.ExpectSystemID(s.remains.View.SystemID)
	if s.data, err = postgres.ReadLeft(ctx); err != nil {
		return nil, fmt.Errorf("recover: %w; nothing was changed", err)
	}
	names := map[string]bool{}
	for _, n := range slices.Concat(s.remains.View.Names(), s.remains.Voters) {
		names[string(n)] = string(n) != c.Name
	}
	maps.DeleteFunc(names, func(_ string, other bool) bool { return !other })
	s.others = slices.Sorted(maps.Keys(names))
	return s, nil
}

// show says what is known, and what may be lost.
func (o *recoverOptions) show(s *survivor) {
	v, out := s.remains.View, o.env.Out
	fmt.Fprintf(out, "Cluster %s, id %s, as the store of %s has it (raft term %d, entry %d):\n", v.Scope, v.ClusterID, s.conf.Name, s.remains.Term, v.Index)
	fmt.Fprintf(out, "  leader key   %s, term %d, timeline %d\n", v.Key.Holder, v.Key.Term, v.Key.Timeline)
	fmt.Fprintf(out, "  voters       %s\n", joined(s.remains.Voters))
	fmt.Fprintf(out, "  data here    %s %s, ends at %s on timeline %d\n", s.data.Data, s.data.Detail, s.data.Position.LSN, s.data.Position.Timeline)
	for i, f := range s.unknown() {
		if i == 0 {
			fmt.Fprintf(out, "  to compare   %s on timeline %d: what the other nodes' ends are to be held against. From there on the data is on timelines that the store does not know:\n", f.LSN, f.Parent)
		}
		fmt.Fprintf(out, "  timeline %d   left %d at %s: made by hand, or after this node last heard of the cluster. The cluster goes on with it\n", f.Timeline, f.Parent, f.LSN)
	}
	if s.remains.BrokenOff {
		fmt.Fprintf(out, "A recovery has begun on this store and was broken off: it is done again, from here on.\n")
	}
	fmt.Fprintf(out, "GIVEN UP FOR GOOD: %s. MAY BE LOST:\n", cmp.Or(strings.Join(s.others, ", "), "nobody, there is no other member"))
	for _, loss := range raftfsm.Losses(v, s.data.Member) {
		fmt.Fprintf(out, "  - %s\n", loss)
	}
	fmt.Fprintf(out, "  - everything that they did after this node last heard of them\n")
}

// obstacle says why this node must not go on alone.
func (o *recoverOptions) obstacle(ctx context.Context, s *survivor) error {
	self, v := cluster.NodeID(s.conf.Name), s.remains.View
	switch {
	case v.SystemID == "" || v.Key.Term == 0:
		return errors.New("recover: the cluster never had a primary; nothing was changed")
	case s.data.Member.Node != self:
		return fmt.Errorf("recover: want this node's own data, it is %s (%s): choose another node; nothing was changed", s.data.Data, s.data.Detail)
	case v.Nodes[self].Incarnation != s.data.Member.Incarnation:
		return fmt.Errorf("recover: the data here is incarnation %q, the cluster knew %q: choose another node; nothing was changed", s.data.Member.Incarnation, v.Nodes[self].Incarnation)
	case s.contradiction() != nil:
		return fmt.Errorf("recover: the data here does not fit this node's Raft store: %w: with that store it could never be a primary again, nor be followed; "+
			"choose another node; nothing was changed", s.contradiction())
	case len(s.remains.Voters) == 1 && s.remains.Voters[0] == self && s.data.Data == cluster.DataOurs && !s.remains.BrokenOff && len(s.unknown()) == 0:
		return errors.New("recover: this node is the only voter already: start its agent; nothing was changed")
	}
	opt := raftfsm.Options{Self: self, UID: v.Nodes[self].UID, Scope: s.conf.Scope, Members: map[cluster.NodeID]string{}}
	var err error
	if _, opt.ClientTLS, err = raftTLS(s.conf.Raft.TLS); err != nil {
		return err
	}
	for name, addr := range s.conf.Raft.Members {
		opt.Members[cluster.NodeID(name)] = addr
	}
	for _, n := range v.Names() {
		if addr := v.Nodes[n].RaftAddr; addr != "" {
			opt.Members[n] = addr
		}
	}
	var alive []string
	for name, says := range raftfsm.Answering(ctx, opt, v) {
		alive = append(alive, fmt.Sprintf("%s (%s)", name, says))
	}
	if len(alive) > 0 {
		slices.Sort(alive)
		return fmt.Errorf("recover: still running: %s: with enough of them the cluster has its quorum; otherwise stop every agent first; nothing was changed", strings.Join(alive, ", "))
	}
	return nil
}

// unknown gives the timelines of the data that the store has not heard of (F3): somebody promoted by hand, or the data went on
// behind a primary of a later term.
func (s *survivor) unknown() []cluster.Fork {
	forks, err := raftfsm.Unknown(s.remains.View, cluster.NodeID(s.conf.Name), s.data.Forks, s.data.Position)
	if err != nil {
		return nil // contradiction says it
	}
	return forks
}

// contradiction says how the data's history contradicts the store.
func (s *survivor) contradiction() error {
	_, err := raftfsm.Unknown(s.remains.View, cluster.NodeID(s.conf.Name), s.data.Forks, s.data.Position)
	return err
}

// confirm asks twice.
func (o *recoverOptions) confirm(ctx context.Context, s *survivor) error {
	in := bufio.NewReader(o.env.In)
	refused := errors.New("recover: not confirmed; nothing was changed")
	questions := []struct {
		text string
		yes  func(string) bool
	}{
		{fmt.Sprintf("If %s ran on, there would be two clusters. Are they lost for good, or off until emptied? [y/N]: ", strings.Join(s.others, ", ")),
			func(a string) bool { return a == "y" || a == "yes" }},
		{fmt.Sprintf("To go on from %s alone, type the cluster's name, %s: ", s.conf.Name, s.conf.Scope), func(a string) bool { return a == strings.ToLower(s.conf.Scope) }},
	}
	if len(s.others) == 0 {
		questions = questions[1:]
	}
	for _, q := range questions {
		fmt.Fprint(o.env.Out, q.text)
		answer, err := readLine(ctx, in)
		if err != nil {
			return fmt.Errorf("recover: no answer: %w; nothing was changed", err)
		}
		if !q.yes(strings.ToLower(strings.TrimSpace(answer))) {
			return refused
		}
	}
	return nil
}

// recover makes the store that of a cluster of one.
func (o *recoverOptions) recover(s *survivor) error {
	id := make([]byte, 16)
	rand.Read(id) // never fails: it ends the program instead (crypto/rand)
	kept, err := raftfsm.RecoverAlone(s.conf.Raft.DataDir, s.conf.Scope, s.conf.Raft.Advertise, cluster.Recover{
		Node: cluster.NodeID(s.conf.Name), Member: s.data.Member, ClusterID: hex.EncodeToString(id), Forks: s.unknown(), Time: time.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return &exitError{code: exitUnknown, err: fmt.Errorf("recover: %w; the store as it was is %s", err, kept)}
	}
	if s.data.Data != cluster.DataOurs { // its promises are lost, and so are all to whom they were given
		if err := s.adopt(s.data.Member); err != nil {
			return fmt.Errorf("recover: the store is done, the data is not: %w: run it again", err)
		}
	}
	fmt.Fprintf(o.env.Out, "Done: %s is a cluster of one, id %s. The store as it was is kept as %s.\n"+
		"Start the agent here. On each other node move raft.data_dir/raft away, then start its agent: it joins as a new member.\n",
		s.conf.Name, hex.EncodeToString(id), kept)
	return nil
}

func joined(names []cluster.NodeID) string {
	var words []string
	for _, n := range names {
		words = append(words, string(n))
	}
	return strings.Join(words, ", ")
}
