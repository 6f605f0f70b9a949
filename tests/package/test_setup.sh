#!/bin/sh
# SPDX-License-Identifier: MIT
# Configuring on a machine that has a compiler, meson, ninja and pkg-config alone: works, says what is
# left out and why, and makes the library and nothing that nobody asked for. TAP.
# Control: what is wished for by name is an error there.
#
#	test_setup.sh SOURCE-FOLDER
set -u
source=$1
# shellcheck source=tests/common/tap.sh
. "$(dirname "$0")/../common/tap.sh"

says() { # says WORDS
	grep -q "$1" "$dir/log"
	report $? "says: $1"
}

# The tools of such a machine, and no package that pkg-config knows. Without ccache's links in front of the compilers,
# which look for these in PATH.
PATH=$(echo "$PATH" | tr ':' '\n' | grep -v ccache | paste -sd: -)
mkdir "$dir/bin" "$dir/none"
for tool in gcc cc as ld ld.bfd ar nm strip meson ninja pkg-config python3 sh env uname git; do
	path=$(command -v $tool) && ln -s "$path" "$dir/bin/$tool"
done
setup() { # setup BUILD OPTION...
	build=$1
	shift
	env -i PATH="$dir/bin" HOME="$dir" PKG_CONFIG_LIBDIR="$dir/none" CC=gcc LANG=C \
		meson setup "$dir/$build" "$source" "$@" >"$dir/log" 2>&1
}

setup plain
report $? 'compiler, meson, ninja and pkg-config are enough'
says 'shunt program: no: it needs libjansson (libjansson-dev)'
says 'manual *: no: it needs scdoc'
says 'tests *: no: -Dtests=enabled'
says 'kernel *: no: -Dkernel=enabled'
says 'demo *: no: -Ddemo=enabled'
! grep -q 'minimum meson_version\|Project targets\|Project specifies' "$dir/log"
report $? 'no warning about the version of meson'
(cd "$dir/plain" && PATH=$dir/bin ninja -n >"$dir/log")
! grep -q 'tests/\|demo/\|kernel/\|examples/' "$dir/log"
report $? 'nothing of tests, demo, kernel and examples is built'
steps=$(sed -n 's/^\[1\/\([0-9]*\)\].*/\1/p' "$dir/log")
[ "${steps:-9999}" -lt 300 ]
report $? "${steps-?} steps"

setup unity --unity=on && [ -s "$dir/unity/build.ninja" ] && ! grep -q 'unity0' "$dir/unity/build.ninja"
report $? '--unity=on: files with functions of one name are compiled one by one'

setup auto -Dtests=auto -Dkernel=auto
report $? 'auto: what cannot be made is left out'
says 'tests *: no: they need cmocka (libcmocka-dev)'
says 'kernel *: no: it needs the shunt program'

! setup wanted -Dtests=enabled
report $? 'enabled: an error where it cannot be made'
says 'the tests need cmocka (libcmocka-dev)'
! setup wanted-kernel -Dkernel=enabled
report $? 'enabled: an error for the kernel too'
says 'the kernel needs the shunt program'
finish
