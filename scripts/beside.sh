#!/usr/bin/env bash
# usage: scripts/beside.sh COMMAND [ARGUMENT...]
# Runs a command beside others that it must not slow: it takes what they leave of the processors. Idle priority counts only
# within a session where the kernel shares the processors by session first (autogroup, sched(7)), so the command has one
# of its own, of the least weight. It ends with this script.
set -euo pipefail
setsid bash -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null || true; exec chrt --idle 0 "$@"' beside "$@" &
trap 'kill -- "-$!" 2>/dev/null' INT TERM
wait "$!"
