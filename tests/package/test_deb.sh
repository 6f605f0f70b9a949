#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the Debian packages, looks at what is in them, unpacks them into an empty root,
# and compiles and runs a program against that; lintian, where it is installed, has nothing to say. TAP; skipped where there are no tools.
#
#	test_deb.sh SOURCE-FOLDER COMPILER...
# shellcheck disable=SC2317 # row runs the functions
set -u
source=$1
shift
compiler=$*

for tool in dpkg-buildpackage dpkg-deb dh scdoc pkg-config; do
	command -v $tool >/dev/null || { echo "1..0 # SKIP no $tool"; exit 0; }
done

# shellcheck source=tests/common/tap.sh
. "$(dirname "$0")/../common/tap.sh"

package() { echo "$dir/out/$1"_*.deb; }

# has PACKAGE PATTERN...: each is the end of a path in it, and no other path leads
# to a file that none of them matches
has() {
	dpkg-deb --fsys-tarfile "$(package "$1")" | tar -t | grep -v '/$' |
		grep -v '^\./usr/share/doc/' >"$dir/list"
	shift
	for pattern; do
		grep -q "$pattern\$" "$dir/list" || { echo "no $pattern"; return 1; }
		grep -v "$pattern\$" "$dir/list" >"$dir/rest"
		mv "$dir/rest" "$dir/list"
	done
	! grep . "$dir/list"
}

unpack() {
	for deb in "$dir"/out/*.deb; do
		dpkg-deb -x "$deb" "$dir/root" || return 1
	done
}

# shellcheck disable=SC2046,SC2086
compile() { # compile OPTION-OF-PKG-CONFIG FLAG-OF-LINKER
	export PKG_CONFIG_LIBDIR="$pc" PKG_CONFIG_SYSROOT_DIR="$dir/root"
	export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
	$compiler "$source/tests/package/consumer.c" $(pkg-config --cflags shunt) \
		$(pkg-config --libs $1 shunt) $2 -o "$dir/program" && "$dir/program"
}

baked() {
	"$dir/root/usr/bin/shunt" sites "$dir/root/usr/bin/shunt" | grep ': baked; [1-9]'
}

page_by_other_name() {
	zcat "$(find "$dir/root" -name 'static_branch_unlikely.3*')" | grep static_branch_unlikely
}

stripped_right() { # of debug information, but not of what is needed
	nm -D "$dir"/root/usr/lib/*/libshunt.so.0 | grep -q 'static_call_batch_commit' &&
		! readelf -S "$dir"/root/usr/lib/*/libshunt.so.0 | grep debug_info
}

# What lintian says goes to standard error; script/deb fails where it is an error. Control: the library's package without its copyright.
no_complaint() { ! grep '^[EW]: ' "$1"; }
complaint() {
	dpkg-deb -R "$(package libshunt0)" "$dir/less" && rm "$dir/less/usr/share/doc/libshunt0/copyright" &&
		dpkg-deb -b "$dir/less" "$dir/libshunt0_less.deb" || return 1
	lintian --allow-root "$dir/libshunt0_less.deb" >"$dir/said"
	cat "$dir/said"
	! no_complaint "$dir/said"
}

row 'script/deb' "$source/script/deb" "$dir/out"
if command -v lintian >/dev/null; then
	cp "$dir/log" "$dir/of-deb"
	row 'lintian: no error, no warning' no_complaint "$dir/of-deb"
	row 'lintian, control: no copyright' complaint
else
	skip 'lintian' 'no lintian'
fi
row 'libshunt0' has libshunt0 '/libshunt\.so\.0' '/libshunt-signals\.so\.0' '/libshunt-trace\.so\.0' \
	'/libshunt-agent\.so\.0'
row 'libshunt-dev' has libshunt-dev '/libshunt\.so' '/libshunt\.a' '/shunt/[a-z_]*\.h' \
	'/libshunt-signals\.so' '/libshunt-signals\.a' '/pkgconfig/shunt-signals\.pc' \
	'/libshunt-trace\.so' '/pkgconfig/shunt-trace\.pc' '/libshunt-agent\.so' '/pkgconfig/shunt-agent\.pc' \
	'/pkgconfig/shunt\.pc' '/cmake/Shunt/Shunt[A-Za-z]*\.cmake' '/man3/[A-Za-z0-9_]*\.3\.gz' \
	'/man7/shunt[a-z-]*\.7\.gz' '/share/shunt/shunt-gdb\.py' \
	'/gdb/auto-load/usr/lib/.*/libshunt\.so\.0-gdb\.py'
if [ -f "$source/tools/meson.build" ]; then
	row 'shunt-tools' has shunt-tools '/usr/bin/shunt' '/man1/shunt[a-z-]*\.1\.gz' \
		'/bash-completion/completions/shunt' '/zsh/vendor-completions/_shunt'
fi
# A cross build's Build-Depends is met by the package of the machine that builds: it bakes files for either. Control: the library's.
of_either_machine() { [ "$(dpkg-deb -f "$(package "$1")" Multi-Arch)" = foreign ]; }
not_the_library() { ! of_either_machine libshunt0; }
row 'shunt-tools of either machine' of_either_machine shunt-tools
row 'control: but not the library' not_the_library
row 'unpacked' unpack
row 'libshunt.so.0 is stripped, and has its names' stripped_right
row 'a page by another name' page_by_other_name
pc=$(dirname "$dir"/root/usr/lib/*/pkgconfig/shunt.pc)
row 'a program, shared' compile '' "-Wl,-rpath,${pc%/pkgconfig}"
row 'a program, static' compile --static -static
if [ -f "$source/tools/meson.build" ]; then
	row 'shunt runs' "$dir/root/usr/bin/shunt" --version
	row 'shunt is baked' baked
fi
finish
