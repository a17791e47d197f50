package raftfsm

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives Raft a logger that writes to log: warnings and errors of Raft as warnings, the rest as debug.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(raftSink{log})
	return l
}

type raftSink struct{ log *slog.Logger }

// Accept takes one line of Raft's.
func (s raftSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn {
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, to) {
		return
	}
	attrs := []slog.Attr{slog.String("raft", msg)}
	for i := 0; i+1 < len(args); i += 2 {
		key := strings.NewReplacer("-", "_", " ", "_").Replace(fmt.Sprint(args[i]))
		attrs = append(attrs, slog.String(key, text(args[i+1])))
	}
	s.log.LogAttrs(ctx, to, "raft says", attrs...)
}

// text gives a value of hclog's as it would print it.
func text(v any) string {
	if f, ok := v.(hclog.Format); ok && len(f) > 0 {
		if format, ok := f[0].(string); ok {
			return fmt.Sprintf(format, f[1:]...)
		}
	}
	return fmt.Sprint(v)
}
