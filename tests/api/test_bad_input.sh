#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A plugin whose file is not what was mapped, or lacks what a scan needs: it must
# load, work on its trampolines, and the message must say why. Each row changes
# the plugin's file before it is loaded, or while it is (bad_plugin.c does that to
# itself, between the mapping and the registration). TAP.
#
# Usage: test_bad_input.sh TEST-PROGRAM PLUGIN PLUGIN-WITHOUT-RELOCATIONS STRIPPED...
# STRIPPED: the plugin by strip -s, -g, --strip-unneeded.

set -u

program=$1
plugin=$2
no_relocations=$3 stripped=$4 without_debug=$5 unneeded=$6
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0

# row NAME DO WORDS [FILE]: load $dir/plugin.so, or FILE, which does DO to itself
row()
{
	BAD_PLUGIN_DO=$2 BAD_PLUGIN_FILE=$dir/plugin.so \
		"$program" plugin "${4:-$dir/plugin.so}" "$3" > "$dir/log" 2>&1
	status=$?
	count=$((count + 1))
	if [ $status -eq 0 ]; then
		echo "ok $count - $1"
		sed -n 's/^ok [0-9]* - \(the message\|none of its\)/# \1/p' "$dir/log"
	else
		echo "not ok $count - $1"
		echo "# status $status"
		sed 's/^/# /' "$dir/log"
		failed=1
	fi
	rm -rf "$dir/plugin.so"
	cp "$plugin" "$dir/plugin.so"
}

# A message is one line, whatever a file is called.
odd=$(printf '%s/a\nb\033[2J' "$dir")
mkdir "$odd"

# The same size and layout, another build-id: the copy with a byte of text changed
# would do too, but a build-id is what tells two builds apart.
cp "$plugin" "$dir/plugin.so"
cp "$no_relocations" "$dir/other.so"

row 'an untouched file' '' ''
row 'replaced by another build' "$dir/other.so" 'replaced'
row 'replaced by a text file' text 'not the ELF file'
row 'replaced by an empty file' empty 'cannot be read'
row 'deleted' delete 'cannot be read'
row 'replaced by a directory' unreadable-type 'cannot be read'

cp "$no_relocations" "$dir/plugin.so"
row 'linked without --emit-relocs' '' 'relocations'
cp "$no_relocations" "$odd/plugin.so"
row 'the same, its name has a newline and an escape sequence' '' 'relocations' "$odd/plugin.so"
cp "$stripped" "$dir/plugin.so"
row 'stripped' '' 'stripped'
cp "$without_debug" "$dir/plugin.so"
row 'strip -g keeps the relocations' '' ''
cp "$unneeded" "$dir/plugin.so"
row 'strip --strip-unneeded keeps them too' '' ''

# Cut off behind what the dynamic linker needs: the section headers are gone.
size=$(wc -c < "$dir/plugin.so")
head -c $((size - 64)) "$plugin" > "$dir/cut.so"
row 'replaced by a file that is cut off' "$dir/cut.so" 'the file'

echo "1..$count"
exit $failed
