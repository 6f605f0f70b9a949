#!/bin/sh
# SPDX-License-Identifier: MIT
# expect.sh EXPECTED PROGRAM [ARGUMENT...]: whether the program succeeds and prints what
# the file EXPECTED says. Folders in paths are left out of the comparison.
set -u
expected=$1
shift

output=$("$@") || { echo "$1 failed with status $?" >&2; exit 1; }
printf '%s\n' "$output" | sed 's|[^ ,]*/||g' | diff -u "$expected" -
