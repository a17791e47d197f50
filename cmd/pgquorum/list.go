package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pgquorum/api"
)

// watchPeriod is how often list -W looks.
const watchPeriod = 2 * time.Second

func newListCommand(env environment) *cobra.Command {
	connect := connection{env: env}
	var (
		format string
		always bool
		period time.Duration
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the cluster's members",
		Long: `Show the cluster's members: where they are, what they do, and how far each standby is behind.

Lag is what the standby has not received yet of the primary's last known WAL position, in MB, rounded.`,
		Example: `  pgquorum list
  pgquorum list --url http://10.0.0.1:8008 --url http://10.0.0.2:8008
  pgquorum list -f json
  pgquorum list -W`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			switch {
			case cmd.Flags().Changed("watch") && period <= 0:
				return usage("--watch %v: want more than 0", period)
			case always && period == 0:
				period = watchPeriod
			}
			client, err := connect.open(false)
			if err != nil {
				return err
			}
			defer client.Close()
			if period > 0 {
				return watchList(cmd.Context(), env, client, format, period)
			}
			view, err := client.Cluster(cmd.Context())
			if err != nil {
				return withExitCode(err)
			}
			return writeCluster(env.Out, view, format)
		},
	}
	connect.addFlags(cmd)
	addFormatFlag(cmd, &format)
	cmd.Flags().BoolVarP(&always, "watch-2s", "W", false, "show the cluster again every 2 seconds, until interrupted")
	cmd.Flags().DurationVarP(&period, "watch", "w", 0, "show the cluster again after each such `PERIOD`, such as 500ms")
	return cmd
}

// watchList shows the cluster again and again until ctx ends. That no node answers is shown, and it goes on.
func watchList(ctx context.Context, env environment, client *api.Client, format string, period time.Duration) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		view, err := client.Cluster(ctx)
		if ctx.Err() != nil {
			return nil // interrupted, which is how watching ends
		}
		if env.OutTerminal {
			fmt.Fprint(env.Out, "\x1b[H\x1b[2J")
		}
		if err != nil {
			fmt.Fprintln(env.Err, "pgquorum:", err)
		} else if err := writeCluster(env.Out, view, format); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// memberRow is a member as json and yaml show it, with patronictl's names.
type memberRow struct {
	Cluster string `json:"Cluster"`
	Member  string `json:"Member"`
	Host    string `json:"Host"`
	Role    string `json:"Role"`
	State   string `json:"State"`
	TL      uint32 `json:"TL,omitempty"`
	LagMB   any    `json:"Lag in MB,omitempty"` // a number, "unknown", or absent on the leader
	Pending string `json:"Pending restart,omitempty"`
	Tags    any    `json:"Tags,omitempty"`
}

func writeCluster(w io.Writer, view *api.ClusterView, format string) error {
	rows := make([]memberRow, 0, len(view.Members))
	for _, m := range view.Members {
		rows = append(rows, rowOf(view.Scope, m))
	}
	if format == "json" || format == "yaml" {
		return writeDocument(w, format, rows)
	}
	if err := clusterTable(view.Scope, rows, format).write(w, format); err != nil {
		return err
	}
	if format == "pretty" {
		_, err := io.WriteString(w, notes(view))
		return err
	}
	return nil
}

func rowOf(scope string, m api.Member) memberRow {
	row := memberRow{Cluster: scope, Member: m.Name, Host: m.Host, Role: roleTitle(m.Role), State: m.State, TL: m.Timeline}
	if m.Port != 0 {
		row.Host = net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	}
	if m.Lag != nil {
		row.LagMB = "unknown"
		if *m.Lag >= 0 {
			row.LagMB = (int64(*m.Lag) + 1<<19) >> 20
		}
	}
	if m.PendingRestart {
		row.Pending = "*"
	}
	if len(m.Tags) > 0 {
		row.Tags = m.Tags
	}
	return row
}

// roleTitle writes sync_standby as patronictl does: Sync Standby.
func roleTitle(role string) string {
	words := strings.Split(role, "_")
	for i, word := range words {
		if word != "" {
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, " ")
}

// clusterTable leaves out the columns in which no member has anything.
func clusterTable(scope string, rows []memberRow, format string) table {
	has := func(f func(memberRow) bool) bool { return slices.ContainsFunc(rows, f) }
	pending, tags := has(func(r memberRow) bool { return r.Pending != "" }), has(func(r memberRow) bool { return r.Tags != nil })
	t := table{title: "Cluster: " + scope}
	column := func(name string, right, show bool, cell func(memberRow) string) {
		if !show {
			return
		}
		t.header, t.right = append(t.header, name), append(t.right, right)
		for i, r := range rows {
			if len(t.rows) <= i {
				t.rows = append(t.rows, nil)
			}
			t.rows[i] = append(t.rows[i], cell(r))
		}
	}
	column("Cluster", false, format == "tsv", func(r memberRow) string { return r.Cluster })
	column("Member", false, true, func(r memberRow) string { return r.Member })
	column("Host", false, true, func(r memberRow) string { return r.Host })
	column("Role", false, true, func(r memberRow) string { return r.Role })
	column("State", false, true, func(r memberRow) string { return r.State })
	column("TL", true, true, func(r memberRow) string { return blankZero(r.TL) })
	column("Lag in MB", true, true, func(r memberRow) string { return blankNil(r.LagMB) })
	column("Pending restart", false, pending, func(r memberRow) string { return r.Pending })
	column("Tags", false, tags, func(r memberRow) string { return tagText(r.Tags) })
	return t
}

// notes are the lines under the table: maintenance mode, and why a member is unknown.
func notes(view *api.ClusterView) string {
	var b strings.Builder
	if view.Pause {
		b.WriteString(" Maintenance mode: on\n")
	}
	for _, m := range view.Members {
		if m.PGQuorum.Disk != "" {
			fmt.Fprintf(&b, " %s: disk alarm: %s\n", m.Name, m.PGQuorum.Disk)
		}
		if m.State != "unknown" {
			continue
		}
		switch seen := m.PGQuorum.SeenMS; {
		case seen < 0:
			fmt.Fprintf(&b, " %s: never heard", m.Name)
		default:
			fmt.Fprintf(&b, " %s: last heard %v ago", m.Name, (time.Duration(seen) * time.Millisecond).Round(time.Second))
		}
		if m.PGQuorum.Error != "" {
			b.WriteString(": " + m.PGQuorum.Error)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func blankZero(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

func blankNil(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// tagText gives tags in the order of their names.
func tagText(tags any) string {
	m, ok := tags.(map[string]any)
	if !ok {
		return ""
	}
	parts := make([]string, 0, len(m))
	for name, value := range m {
		parts = append(parts, fmt.Sprintf("%s: %v", name, value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
