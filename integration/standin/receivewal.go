package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// receiveWAL streams from the server's present segment on, without a slot, and keeps nothing of what comes. It never
// replies, so that it confirms nothing; the server counts it as a standby of its name all the same until wal_sender_timeout.
func receiveWAL(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pg_receivewal", flag.ContinueOnError)
	conninfo := flags.String("d", "", "the server")
	flags.String("D", "", "as it must be")
	flags.Bool("no-loop", false, "as it must be")
	flags.Bool("no-password", false, "as it must be")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, *conninfo)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the server has ended it, or ctx has
	answers, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return err
	}
	if len(answers) != 1 || len(answers[0].Rows) != 1 || len(answers[0].Rows[0]) < 3 {
		return fmt.Errorf("IDENTIFY_SYSTEM: want one row of 3 columns, have %v", answers)
	}
	row := answers[0].Rows[0]
	ask := fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %s", strings.TrimSpace(string(row[2])), row[1])
	conn.Frontend().Send(&pgproto3.Query{String: ask})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		if refusal, is := msg.(*pgproto3.ErrorResponse); is {
			return pgconn.ErrorResponseToPgError(refusal)
		}
	}
}
