# SPDX-License-Identifier: MIT
# TAP, for the scripts: a line for each row, behind one that failed what it said, and the plan. To be
# read by them (". tap.sh"); sets dir, a folder that goes with the script, whose file log is what
# report shows.
# shellcheck shell=sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0

report() { # report STATUS NAME
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		tail -n 40 "$dir/log" | sed 's/^/# /'
		failed=1
	fi
}

row() { # row NAME COMMAND...
	name=$1
	shift
	("$@") >"$dir/log" 2>&1 </dev/null
	report $? "$name"
}

skip() { # skip NAME WHY
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

finish() { # behind the last row
	echo "1..$count"
	exit $failed
}
