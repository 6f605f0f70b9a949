#!/bin/sh
# SPDX-License-Identifier: MIT
# An architecture without a port (aarch64, called by another name): Shunt configures and builds there, and the header's
# fall-back works: the suite of the interface, and code of the kernel's, cross-compiled and run by qemu-user. TAP. Skipped
# where the cross compiler or the emulator is not installed (gcc-aarch64-linux-gnu, qemu-user). What changes code is
# tested by script/test arm64: qemu-user does not see what is written through /proc/self/mem.
# Control: a program that a wrong key is planted in must fail there too. CMakeLists.txt for aarch64, which has a port.
# And by musl-gcc, with the kernel's headers and without them.
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

# CMake and Meson compile the same files of src for a CPU that has a port. Control: for another CPU, others.
sources() { # sources BUILD
	grep -o '"file": "[^"]*"' "$1/compile_commands.json" | sed 's|.*/src/||; s/"$//' | sort -u
}
by_cmake() { # by_cmake CPU COMPILER
	rm -rf "$dir/cmake"
	cmake -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$1" \
		-DCMAKE_C_COMPILER="$2" -S "$source" -B "$dir/cmake" && sources "$dir/cmake" >"$dir/by-cmake"
}
same_files() {
	rm -rf "$dir/build"
	meson setup "$dir/build" "$source" --cross-file "$source/packaging/aarch64-linux-gnu.ini" -Dman=disabled &&
		sources "$dir/build" >"$dir/by-meson" && grep -qx 'arch/aarch64/ftrace_stubs.S' "$dir/by-meson" &&
		by_cmake aarch64 "$cc" && diff "$dir/by-meson" "$dir/by-cmake"
}
other_files() { by_cmake x86_64 gcc && ! diff -q "$dir/by-meson" "$dir/by-cmake"; }
if command -v cmake >/dev/null; then
	row 'CMake, aarch64: the files that Meson compiles' same_files
	row 'control: CMake, x86_64: others' other_files
else
	skip CMake 'no cmake'
fi

# shunt_bake() of an installed library for aarch64: the shunt program is this machine's, from PATH, and not that beside the
# library, nor one in CMAKE_PREFIX_PATH. Here both are scripts that say whose they are. Control: natively it is the one beside it.
cross_bake() { # cross_bake PATH OPTION...
	path=$1
	shift
	rm -rf "$dir/bake/b"
	PATH=$path cmake -DCMAKE_C_COMPILER="$cc" "$@" -DCMAKE_PREFIX_PATH="$dir/bake/target" -S "$dir/bake" -B "$dir/bake/b" &&
		PATH=$path cmake --build "$dir/bake/b" >"$dir/said" && cat "$dir/said"
}
bake_tree() {
	mkdir -p "$dir/bake/target/bin" "$dir/bake/here" "$dir/bake/target/lib/cmake/Shunt" && cd "$dir/bake" &&
		printf '#!/bin/sh\necho baked by the target\n' >target/bin/shunt &&
		printf '#!/bin/sh\necho baked by this machine\n' >here/shunt && chmod +x target/bin/shunt here/shunt &&
		cp "$source/packaging/ShuntBake.cmake" target/lib/cmake/Shunt &&
		echo "set(SHUNT_PROGRAM_HINTS \"$dir/bake/target/bin\")
include(\"\${CMAKE_CURRENT_LIST_DIR}/ShuntBake.cmake\")" >target/lib/cmake/Shunt/ShuntConfig.cmake &&
		echo 'int main(void) { return 0; }' >main.c &&
		printf 'cmake_minimum_required(VERSION 3.13)\nproject(p C)\nfind_package(Shunt REQUIRED)\nadd_executable(p main.c)\nshunt_bake(p)\n' >CMakeLists.txt
}
system='-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64'
# shellcheck disable=SC2086 # words
baked_here() { cross_bake "$dir/bake/here:$PATH" $system "$@" && grep 'baked by this machine' "$dir/said"; }
no_program() {
	# Without this machine's in PATH, be it there.
	for tool in cmake make ninja sh env "$cc" gcc cc as ld; do
		tool=$(command -v "$tool") && ln -sf "$tool" "$dir/bake/tools/"
	done
	# shellcheck disable=SC2086
	! cross_bake "$dir/bake/tools" $system "$@" >"$dir/said" 2>&1 && grep 'no shunt program of the machine that builds' "$dir/said"
}
baked_beside() { cc=gcc cross_bake "$dir/bake/here:$PATH" && grep 'baked by the target' "$dir/said"; }

# The cross file alone names the target's pkg-config: where it is there the shunt program is built, and where it is not that is said.
pkg_config_of_target() { # pkg_config_of_target FOLDER
	rm -rf "$dir/build"
	PATH=$1:$PATH meson setup "$dir/build" "$source" --cross-file "$source/packaging/aarch64-linux-gnu.ini" -Dman=disabled >"$dir/said" 2>&1
	cat "$dir/said"
}
asked() {
	mkdir -p "$dir/pkg" && printf '#!/bin/sh\ncase "$*" in *--version*) echo 1.8 ;; *) echo "$*" >>"%s/asked"; exit 1 ;; esac\n' "$dir" \
		>"$dir/pkg/aarch64-linux-gnu-pkg-config" && chmod +x "$dir/pkg/aarch64-linux-gnu-pkg-config" &&
		pkg_config_of_target "$dir/pkg" && grep jansson "$dir/asked"
}
says_which_library() {
	pkg_config_of_target "$dir/none" && grep 'shunt program: no: it needs libjansson for aarch64 (libjansson-dev:arm64' "$dir/said"
}
# Of two cross files the second one's holds, as script/test arm64 has it.
second_file() {
	rm -rf "$dir/build" "$dir/asked"
	printf "[binaries]\npkgconfig = '%s'\n" "$dir/pkg/aarch64-linux-gnu-pkg-config" >"$dir/second.ini"
	meson setup "$dir/build" "$source" --cross-file "$source/packaging/aarch64-linux-gnu.ini" --cross-file "$dir/second.ini" \
		-Dman=disabled && grep jansson "$dir/asked"
}
# script/deb -a names what is missing with the target's architecture, before it builds anything. dpkg is told that it knows arm64.
# shellcheck disable=SC2016 # for the script that is made
deb_says() {
	mkdir -p "$dir/dpkg" && printf '#!/bin/sh\ncase $1 in --print-foreign-architectures) echo arm64 ;; *) exec %s "$@" ;; esac\n' \
		"$(command -v dpkg)" >"$dir/dpkg/dpkg" && chmod +x "$dir/dpkg/dpkg" || return 1
	! PATH=$dir/dpkg:$PATH "$source/script/deb" -a arm64 "$dir/debs" >"$dir/said" 2>&1 && cat "$dir/said" &&
		grep 'script/deb: not installed: apt-get install .*libjansson-dev:arm64' "$dir/said" && ! grep '[a-z]-dev ' "$dir/said"
}
deb_without_arm64() {
	! "$source/script/deb" -a arm64 "$dir/debs" >"$dir/said" 2>&1 && grep 'dpkg --add-architecture arm64' "$dir/said"
}
deb_help() { "$source/script/deb" --help >"$dir/said" && grep -- '-a needs' "$dir/said" && grep 'protobuf-c-compiler.*libjansson-dev:arm64' "$dir/said"; }
row 'script/deb --help: what -a needs' deb_help
tools_of_deb=
for tool in dpkg-buildpackage dpkg-checkbuilddeps dh meson scdoc protoc-c; do
	command -v $tool >/dev/null || tools_of_deb=$tool
done
if [ -n "$tools_of_deb" ]; then
	skip 'script/deb -a' "no $tools_of_deb"
elif dpkg -s libjansson-dev:arm64 >/dev/null 2>&1 || dpkg --print-foreign-architectures | grep -qx arm64; then
	skip 'script/deb -a: what is missing' 'dpkg knows arm64'
else
	row 'script/deb -a: which packages are missing, of which architecture' deb_says
	row 'script/deb -a: dpkg does not know the architecture' deb_without_arm64
fi

row 'the cross file: its pkg-config is asked' asked
if command -v aarch64-linux-gnu-pkg-config >/dev/null; then
	skip 'the cross file without its pkg-config' 'it is here'
else
	row 'the cross file without its pkg-config: says of which machine the library is missing' says_which_library
fi
row 'a second cross file overrides it' second_file
if command -v cmake >/dev/null; then
	row 'CMake, shunt_bake(): files' bake_tree
	mkdir -p "$dir/bake/tools"
	row "CMake, shunt_bake(): this machine's, not the one beside the library" baked_here
	row "CMake, shunt_bake(): nor one of the root for the target" baked_here -DCMAKE_FIND_ROOT_PATH="$dir/bake/target"
	row "CMake, shunt_bake(): nor one of the prefix to install in" baked_here -DCMAKE_INSTALL_PREFIX="$dir/bake/target"
	row 'CMake, shunt_bake(): where there is none, that is said' no_program
	row 'control: CMake, natively: the one beside the library' baked_beside
else
	skip 'CMake, shunt_bake()' 'no cmake'
fi

# musl, natively. Without the kernel's headers, which musl-gcc does not look for, static calls are indirect calls.
if command -v musl-gcc >/dev/null; then
	cc=musl-gcc run=
	build_musl() {
		rm -rf "$dir/build"
		CC=musl-gcc meson setup "$dir/build" "$source" -Dman=disabled && ninja -C "$dir/build" &&
			grep -q 'SHUNT_GENERIC' "$dir/build/meson-private/shunt.pc"
	}
	# With them, the library changes its calls; the control is the same check on the one without.
	consumer() { # every site is a direct call
		# shellcheck disable=SC2086
		$cc $1 -I"$source/include" "$source/tests/package/consumer.c" "$dir/build/src/libshunt.a" -static -pthread \
			-Wl,--emit-relocs -o "$dir/consumer" && "$dir/consumer" >"$dir/said" && cat "$dir/said" &&
			grep '^number: [1-9][0-9]* sites, [1-9]' "$dir/said"
	}
	no_direct_call() { ! consumer -DSHUNT_GENERIC; }
	row 'musl: builds, and pkg-config tells the headers' build_musl
	row 'musl: says what is less' grep -q 'no port for x86_64 linux without glibc' "$dir/build/meson-logs/meson-log.txt"
	# shellcheck disable=SC2086
	row 'musl, static keys: compiles' program keys -DSHUNT_GENERIC $keys
	row 'musl, static keys: runs' "$dir/keys"
	# Without .preinit_array and ifunc, which musl has not.
	row 'musl, the suite: compiles' program suite '-DSHUNT_GENERIC -DSUITE_STATIC -DSUITE_SANITIZED' "$source"/tests/api/suite*.c "$source/tests/api/plugin_lib.c"
	row 'musl, the suite: runs' "$dir/suite"
	row 'musl, control: no call is direct' no_direct_call

	printf '#!/bin/sh\nexec musl-gcc -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu "$@"\n' >"$dir/musl-cc"
	chmod +x "$dir/musl-cc"
	cc=$dir/musl-cc
	build_live() {
		rm -rf "$dir/build"
		CC=$cc meson setup "$dir/build" "$source" -Dman=disabled -Dwerror=true && ninja -C "$dir/build" &&
			! grep SHUNT_GENERIC "$dir/build/meson-private/shunt.pc" &&
			grep 'live patching.*of the library alone' "$dir/build/meson-logs/meson-log.txt"
	}
	row 'musl with the headers of Linux: builds' build_live
	row 'musl with the headers of Linux: calls are direct' consumer ''
	row 'musl with the headers of Linux, the suite: compiles' program suite '-DSUITE_STATIC -DSUITE_SANITIZED -Wl,--emit-relocs' \
		"$source"/tests/api/suite*.[cS] "$source/tests/api/plugin_lib.c"
	row 'musl with the headers of Linux, the suite: runs' "$dir/suite"

	# CMake compiles what Meson does for it, which is less than for glibc, and the function tracing of its library builds.
	musl_by_cmake() {
		sources "$dir/build" >"$dir/by-meson" && grep -qx 'linux/entry/stubs.c' "$dir/by-meson" &&
			! grep '^trace/\|^agent/\|^signals/' "$dir/by-meson" &&
			by_cmake x86_64 "$cc" && diff "$dir/by-meson" "$dir/by-cmake" &&
			cmake --build "$dir/cmake" --target shunt shunt_static
	}
	consumer_by_cmake() {
		mv "$dir/build" "$dir/build-meson" && mkdir -p "$dir/build/src" && cp "$dir/cmake/libshunt.a" "$dir/build/src" &&
			consumer ''
	}
	if command -v cmake >/dev/null; then
		row 'musl, CMake: the files that Meson compiles, and they build' musl_by_cmake
		row 'musl, CMake: calls are direct' consumer_by_cmake
		row 'musl, control: CMake, glibc: others' other_files
	else
		skip 'musl, CMake' 'no cmake'
	fi
else
	skip musl 'no musl-gcc (musl-tools)'
fi
finish
