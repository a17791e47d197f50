package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"pgquorum/cluster"
)

// historyRow is a change of timeline as json and yaml show it, with patronictl's names.
type historyRow struct {
	TL        uint32 `json:"TL"`
	LSN       uint64 `json:"LSN"`
	Reason    string `json:"Reason"`
	Timestamp string `json:"Timestamp"`
	NewLeader string `json:"New Leader"`
}

func newHistoryCommand(env environment) *cobra.Command {
	connect := connection{env: env}
	var format string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show the past failovers and switchovers",
		Long:  "Show each timeline that ended: at which position, why, when, and which node went on from there.",
		Example: `  pgquorum history
  pgquorum history -f tsv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			client, err := connect.open(false)
			if err != nil {
				return err
			}
			defer client.Close()
			lines, err := client.History(cmd.Context())
			if err != nil {
				return withExitCode(err)
			}
			rows := make([]historyRow, 0, len(lines))
			for _, l := range lines {
				rows = append(rows, historyRow{TL: l.Timeline, LSN: l.LSN, Reason: l.Reason, Timestamp: l.Time, NewLeader: l.NewLeader})
			}
			if format == "json" || format == "yaml" {
				return writeDocument(env.Out, format, rows)
			}
			return historyTable(rows).write(env.Out, format)
		},
	}
	connect.addFlags(cmd)
	addFormatFlag(cmd, &format)
	return cmd
}

// historyTable shows positions in PostgreSQL's own form.
func historyTable(rows []historyRow) table {
	t := table{header: []string{"TL", "LSN", "Reason", "Timestamp", "New Leader"}, right: []bool{true, true}}
	for _, r := range rows {
		t.rows = append(t.rows, []string{strconv.FormatUint(uint64(r.TL), 10), cluster.LSN(r.LSN).String(), r.Reason, r.Timestamp, r.NewLeader})
	}
	return t
}
