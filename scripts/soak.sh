#!/usr/bin/env bash
# Plays simulated schedules and chaos in turns, seeds that were never played before, until the hours are over or a part
# fails. Each part is one line of docs/soak.tsv, so the next call goes on where this one ended; a part that failed is played
# again first, once the code is another.
#
#   scripts/soak.sh HOURS [sim|chaos]       both unless one is named
set -euo pipefail
cd "$(dirname "$0")/.."

record=docs/soak.tsv
hours=${1:?scripts/soak.sh HOURS [sim|chaos]}
kinds=(sim chaos)
case ${2:-} in
"") ;;
sim | chaos) kinds=("$2") ;;
*)
	echo "soak: no kind $2: sim, chaos, or both without a name" >&2
	exit 2
	;;
esac
part_schedules=1000 part_minutes=10
end=$(awk -v now="$(date +%s)" -v hours="$hours" 'BEGIN { printf "%d", now + hours * 3600 }')

[ -e "$record" ] || printf 'kind\tfirst seed\tschedules or minutes\tresult\tseconds\tcommit\tday\n' >"$record"

# next prints the first seed of a part that failed, if the code is another since, or else the seed after the last one played.
next() {
	awk -F '\t' -v kind="$1" -v code="$(code)" 'BEGIN { next_seed = 1001 } # make test plays the first 1000
		$1 == kind { after = $2 + (kind == "sim" ? $3 : 1); if (after > next_seed) next_seed = after; result[$2] = $4; commit[$2] = $6 }
		END { for (seed in result) if (result[seed] == "FAILED" && commit[seed] != code) next_seed = seed; print next_seed }' "$record"
}

# code prints which sources are played, with a + if they are not as committed.
code() {
	local commit
	commit=$(git rev-parse --short HEAD 2>/dev/null) || commit=unknown
	[ -z "$(git status --porcelain -- '*.go' go.mod 2>/dev/null)" ] || commit+=+
	echo "$commit"
}

play() {
	case $1 in
	sim) make --no-print-directory sim SEED="$2" SEEDS=$part_schedules ARGS="-logs $PWD/integration/out/soak" ;;
	chaos) make --no-print-directory chaos SEED="$2" MINUTES=$part_minutes ;;
	esac
}

while [ "$(date +%s)" -lt "$end" ]; do
	for kind in "${kinds[@]}"; do
		seed=$(next "$kind") began=$(date +%s) result=passed
		amount=$part_schedules
		[ "$kind" = sim ] || amount=$part_minutes
		echo "soak: $kind from seed $seed on"
		play "$kind" "$seed" || result=FAILED
		printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$kind" "$seed" "$amount" "$result" "$(($(date +%s) - began))" \
			"$(code)" "$(date -u +%F)" >>"$record"
		if [ "$result" = FAILED ]; then
			echo "soak: $kind failed with seed $seed: what it kept is in integration/out; the next call plays it again first if the code is another by then, else it goes on behind it" >&2
			exit 1
		fi
	done
done
awk -F '\t' 'NR > 1 { result[$1 FS $2] = $4; n[$1 FS $2] = $3; if ($4 == "FAILED") failed++ }
	END { for (part in result) if (result[part] == "passed") { split(part, p, FS); sum[p[1]] += n[part] }
		printf "soak: in all %d schedules and %d minutes of chaos passed; %d parts have failed, each is played again once the code is another\n", sum["sim"], sum["chaos"], failed }' "$record"
