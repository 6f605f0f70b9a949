#!/bin/sh
# SPDX-License-Identifier: MIT
# Cross-builds the Debian packages for arm64, and looks at what is in them. TAP; skipped where dpkg has not that
# architecture, or what script/deb -a asks for is missing.
# Control: with a file left out of the list of what is packed for arm64 nothing is built.
#
#	test_deb_cross.sh SOURCE-FOLDER
# shellcheck disable=SC2317 # row runs the functions
set -u
source=$1
skip_all() { echo "1..0 # SKIP $1"; exit 0; }
for tool in dpkg-buildpackage dh scdoc aarch64-linux-gnu-gcc aarch64-linux-gnu-readelf aarch64-linux-gnu-pkg-config; do
	command -v $tool >/dev/null || skip_all "no $tool"
done
dpkg --print-foreign-architectures | grep -qx arm64 || skip_all 'dpkg --add-architecture arm64 was not run'
for package in libiberty-dev libjansson-dev libprotobuf-c-dev zlib1g-dev; do
	dpkg -s $package:arm64 >/dev/null 2>&1 || skip_all "no $package:arm64"
done
# shellcheck source=tests/common/tap.sh
. "$(dirname "$0")/../common/tap.sh"

unpack() {
	for deb in "$dir"/out/*_arm64.deb; do
		dpkg-deb -x "$deb" "$dir/root" || return 1
	done
}

machine() { aarch64-linux-gnu-readelf -h "$dir/root/usr/lib/aarch64-linux-gnu/libshunt.so.0" | grep 'AArch64'; }
has() { for file; do [ -e "$dir/root/usr/$file" ] || { echo "no $file"; return 1; }; done; }
tool() { qemu-aarch64 "$dir/root/usr/bin/shunt" --version; }
baked() { qemu-aarch64 "$dir/root/usr/bin/shunt" sites "$dir/root/usr/bin/shunt" | grep ': baked; [1-9]'; }
depends() { dpkg-deb -f "$dir"/out/libshunt0_*_arm64.deb Depends | grep 'libc6 ('; }

# The paths in the copy are the source's; what it has not is what git ignores.
copy() {
	mkdir "$dir/copy" && (cd "$source" && tar -c --exclude='./build*' --exclude=./.git --exclude=./.cache --exclude=./out .) |
		tar -x -C "$dir/copy" && sed -i '/pkgconfig/d' "$dir/copy/packaging/debian/libshunt-dev.install.arm64"
}
refused() { ! "$dir/copy/script/deb" -a arm64 "$dir/none" >"$dir/said" 2>&1 && grep 'dh_missing: error' "$dir/said"; }

row 'script/deb -a arm64' "$source/script/deb" -a arm64 "$dir/out"
row 'unpacks' unpack
row 'the library is for aarch64' machine
row 'what depends on the C library says so' depends
row 'what a program is compiled with' has lib/aarch64-linux-gnu/libshunt.so lib/aarch64-linux-gnu/libshunt.a \
	lib/aarch64-linux-gnu/pkgconfig/shunt.pc include/shunt/static_call.h share/man/man3/static_call.3.gz
row 'shunt-tools: the program, its pages and completions' has bin/shunt share/man/man1/shunt.1.gz \
	share/bash-completion/completions/shunt
# What was built is run in an emulator of a process, by which it has been baked, too.
if command -v qemu-aarch64 >/dev/null; then
	row 'shunt runs' tool
	row 'shunt is baked' baked
else
	skip 'shunt runs' 'no qemu-aarch64'
	skip 'shunt is baked' 'no qemu-aarch64'
fi
row 'control: a copy' copy
row 'control: a file that is built and not packed is seen' refused
finish
