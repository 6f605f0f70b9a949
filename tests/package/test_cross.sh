#!/bin/sh
# SPDX-License-Identifier: MIT
# An architecture without a port (aarch64, called by another name): Shunt configures and builds there, and the header's
# fall-back works: the suite of the interface, and code of the kernel's, cross-compiled and run by qemu-user. TAP. Skipped
# where the cross compiler or the emulator is not installed (gcc-aarch64-linux-gnu, qemu-user). What changes code is
# tested by script/test arm64: qemu-user does not see what is written through /proc/self/mem.
# Control: a program that a wrong key is planted in must fail there too.
#
#	test_cross.sh SOURCE-FOLDER
# shellcheck disable=SC2317 # row runs the functions
set -u
source=$1
cc=aarch64-linux-gnu-gcc
run='qemu-aarch64 -L /usr/aarch64-linux-gnu'
for tool in $cc qemu-aarch64 meson; do
	command -v "$tool" >/dev/null || { echo "1..0 # SKIP no $tool"; exit 0; }
done
# shellcheck source=tests/common/tap.sh
. "$(dirname "$0")/../common/tap.sh"

build() {
	sed "s/^cpu_family = .*/cpu_family = 'loongarch64'/" "$source/packaging/aarch64-linux-gnu.ini" >"$dir/cross.ini" &&
		printf "[built-in options]\nc_args = ['-DSHUNT_GENERIC']\n" >>"$dir/cross.ini" &&
		meson setup "$dir/build" "$source" --cross-file "$dir/cross.ini" &&
		grep -q 'there is no port for loongarch64' "$dir/build/meson-logs/meson-log.txt" &&
		ninja -C "$dir/build" && [ -e "$dir/build/src/libshunt.so.0" ]
}

# program NAME FLAGS FILE...: with libshunt.a, statically
program() {
	out=$dir/$1 flags=$2
	shift 2
	# shellcheck disable=SC2086 # words
	$cc -O2 -Wall -Wextra -D_GNU_SOURCE -Wno-unused-function $flags -I"$source/include" "$@" \
		"$dir/build/src/libshunt.a" -static -pthread -o "$out"
}

keys="$source/tests/keys/kernel_keys.c $source/tests/keys/kernel_keys_base.c"
row 'meson setup with a cross file, ninja' build
# shellcheck disable=SC2086
row 'static keys: compiles' program keys -DSHUNT_GENERIC $keys
# shellcheck disable=SC2086
row 'static keys: runs' $run "$dir/keys"
# shellcheck disable=SC2086
row 'control: compiles' program control '-DSHUNT_GENERIC -DCONTROL' $keys
# shellcheck disable=SC2086
row 'control: fails' sh -c '"$@"; [ $? = 1 ]' sh $run "$dir/control"
row 'the suite: compiles' program suite '-DSHUNT_GENERIC -DSUITE_STATIC' "$source"/tests/api/suite*.c "$source/tests/api/plugin_lib.c"
# shellcheck disable=SC2086
row 'the suite: runs' $run "$dir/suite"

# musl, natively: what is less there is that static calls are indirect calls.
if command -v musl-gcc >/dev/null; then
	cc=musl-gcc run=
	build_musl() {
		rm -rf "$dir/build"
		CC=musl-gcc meson setup "$dir/build" "$source" -Dman=disabled && ninja -C "$dir/build" &&
			grep -q 'SHUNT_GENERIC' "$dir/build/meson-private/shunt.pc"
	}
	row 'musl: builds, and pkg-config tells the headers' build_musl
	row 'musl: says what is less' grep -q 'no port for x86_64 linux without glibc' "$dir/build/meson-logs/meson-log.txt"
	# shellcheck disable=SC2086
	row 'musl, static keys: compiles' program keys -DSHUNT_GENERIC $keys
	row 'musl, static keys: runs' "$dir/keys"
	# Without .preinit_array and ifunc, which musl has not.
	row 'musl, the suite: compiles' program suite '-DSHUNT_GENERIC -DSUITE_STATIC -DSUITE_SANITIZED' "$source"/tests/api/suite*.c "$source/tests/api/plugin_lib.c"
	row 'musl, the suite: runs' "$dir/suite"
else
	skip musl 'no musl-gcc (musl-tools)'
fi
finish
