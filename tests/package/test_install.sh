#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs Shunt into an empty folder and builds a program against it in every way that
# the manual names: pkg-config, CMake, as a Meson subproject; shared and static. The
# program says whether its calls are direct, so the linker flag came along. TAP.
#
# With --all by CMake as well, and the library is also compiled as a Meson subproject, by FetchContent and by add_subdirectory.
#
#	test_install.sh [--all] BUILD-FOLDER SOURCE-FOLDER COMPILER...
# shellcheck disable=SC2317 # row runs the functions
set -u
all=
[ "$1" != --all ] || { all=1; shift; }
build=$1
source=$2
shift 2
compiler=$*
program=$source/tests/package/consumer.c

# shellcheck source=tests/common/tap.sh
. "$(dirname "$0")/../common/tap.sh"

have() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- the installation

installed() {
	for header in "$source"/include/shunt/*.h; do
		cmp "$header" "$prefix/include/shunt/${header##*/}" || return 1
	done
	for file in "$lib/libshunt.so" "$lib/libshunt.so.0" "$lib/libshunt.a" \
		"$prefix/share/shunt/shunt-gdb.py" \
		"$prefix/share/gdb/auto-load/${lib#"$dir/root/"}/libshunt.so.0-gdb.py" \
		"$lib/libshunt-signals.so.0" "$lib/libshunt-signals.so" "$lib/libshunt-signals.a" \
		"$lib/pkgconfig/shunt-signals.pc" "$lib/pkgconfig/shunt-agent.pc" \
		"$lib/libshunt-agent.so.0" "$lib/libshunt-agent.so" \
		"$lib/pkgconfig/shunt.pc" "$lib/cmake/Shunt/ShuntConfig.cmake"; do
		[ -e "$file" ] || { echo "no $file"; return 1; }
	done
	readelf -d "$lib/libshunt.so.0" | grep -q 'SONAME.*\[libshunt\.so\.0\]'
}

man_pages() {
	for page in "$prefix"/share/man/man?/*; do
		[ -s "$page" ] || { echo "empty: $page"; return 1; }
	done
	ls "$prefix/share/man/man3/"
	[ -e "$prefix/share/man/man3/static_branch_unlikely.3" ]
}

DESTDIR=$dir/root meson install -C "$build" --no-rebuild --quiet >"$dir/log" 2>&1
report $? 'meson install, with DESTDIR'
lib=$(find "$dir/root" -name libshunt.a)
lib=${lib%/libshunt.a}
prefix=$dir/root$(sed -n 's/^prefix=//p' "$lib/pkgconfig/shunt.pc")
# The program's name completes by the installed files, as a shell finds them: their names are the commands'.
completions() {
	bash -c '. "$1" && complete -p shunt' - "$prefix/share/bash-completion/completions/shunt" | grep -w shunt &&
		head -n 1 "$prefix/share/zsh/site-functions/_shunt" | grep '^#compdef shunt'
}

row 'headers, libraries, descriptions' installed
if [ -x "$prefix/bin/shunt" ]; then
	row 'completions for bash and zsh' completions
else
	skip 'completions' 'no shunt program'
fi
if [ -d "$prefix/share/man" ]; then
	row 'manual pages and their other names' man_pages
else
	skip 'manual pages' 'no scdoc'
fi

# In a folder that the dynamic linker does not search, of a program that has nothing of Shunt.
traces_from_here() {
	unset LD_LIBRARY_PATH
	echo 'int main(void) { return 0; }' >"$dir/traced.c"
	$compiler -fpatchable-function-entry=5 "$dir/traced.c" -o "$dir/traced" &&
		"$prefix/bin/shunt" trace -o "$dir/traced.trace" -- "$dir/traced" &&
		"$prefix/bin/shunt" report "$dir/traced.trace" | grep main
}

agent_from_here() {
	unset LD_LIBRARY_PATH
	SHUNT_AGENT=1 LD_PRELOAD=$lib/libshunt-agent.so.0 "$dir/traced"
}

if [ ! -x "$prefix/bin/shunt" ]; then
	skip 'shunt trace from a folder of its own' 'no shunt program'
elif [ "$prefix" = "$dir/root/usr" ]; then
	skip 'shunt trace from a folder of its own' 'the prefix is /usr'
else
	row 'shunt trace from a folder of its own' traces_from_here
	row 'libshunt-agent preloaded from there' agent_from_here
fi

# -------------------------------------------------------------------- pkg-config

packages=shunt
# In a folder without space in its name, so that no quoting is needed: shell words.
# shellcheck disable=SC2046,SC2086
with_pkg_config() { # with_pkg_config OPTION...: compile and run; LINK for the linker
	$compiler "$program" $(pkg-config --cflags shunt) $(pkg-config "$@" --libs $packages) $link \
		-o "$dir/program" && "$dir/program"
}

# shellcheck disable=SC2086
installed_pkg_config() {
	export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dir/root"
	with_pkg_config "$@"
}

uninstalled_pkg_config() {
	export PKG_CONFIG_PATH="$build/meson-uninstalled"
	with_pkg_config "$@"
}

cxx_pkg_config() {
	export PKG_CONFIG_PATH="$build/meson-uninstalled"
	compiler=$cxx program=$source/examples/feature_flag.cc
	with_pkg_config
}

# The program names no function of it: whether it is linked all the same.
signals_pkg_config() { # signals_pkg_config OPTION...
	(packages='shunt shunt-signals' && installed_pkg_config "$@") &&
		if [ "$link" = -static ]; then nm "$dir/program" | grep 'T sigpause$'; else
			readelf -d "$dir/program" | grep 'NEEDED.*libshunt-signals.so.0'; fi
}

# The same of the agent, which SHUNT_AGENT=1 starts.
agent_pkg_config() {
	(packages='shunt shunt-agent' && installed_pkg_config "$@") &&
		readelf -d "$dir/program" | grep 'NEEDED.*libshunt-agent.so.0'
}

agent_uninstalled() {
	(packages='shunt shunt-agent' && uninstalled_pkg_config "$@")
}

signals_uninstalled() {
	(packages='shunt shunt-signals' && uninstalled_pkg_config "$@")
}

# What pkg-config says for a shell that reads it again, where the folder has a space in its name.
spaced_files() { # spaced_files FOLDER FOLDER-OF-FILES
	rm -rf "$dir/a space" "$dir/spaced" && mkdir "$dir/spaced" && ln -s "$1" "$dir/a space" || return
	for file in "$2"/*.pc; do
		sed "s|^prefix=.*|prefix=$dir/a\\\\ space|" "$file" >"$dir/spaced/${file##*/}"
	done
}
spaced_pkg_config() { # spaced_pkg_config FOLDER FOLDER-OF-FILES PACKAGES [LINK]
	spaced_files "$1" "$2" || return
	eval "PKG_CONFIG_PATH='$dir/spaced' && export PKG_CONFIG_PATH &&
		$compiler $program $(PKG_CONFIG_PATH="$dir/spaced" pkg-config --cflags --libs "$3") ${4-} -o $dir/program" &&
		"$dir/program"
}

uninstalled_spaced() {
	for packages in shunt shunt-trace shunt-agent 'shunt shunt-signals'; do
		# shellcheck disable=SC2086
		spaced_pkg_config "$build" "$build/meson-uninstalled" "$packages" || return
	done
}

prefix_spaced() { spaced_pkg_config "$prefix" "$lib/pkgconfig" shunt "-Wl,-rpath,$lib"; }

system_headers() { # ours must not stand before <linux/elf.h> and the like
	export PKG_CONFIG_PATH="$build/meson-uninstalled"
	for dir in $(pkg-config --cflags-only-I shunt | sed 's/-I//g'); do
		[ ! -d "$dir/linux" ] || return 1
	done
}

if have pkg-config; then
	link=-Wl,-rpath,$lib
	row 'pkg-config' installed_pkg_config
	row 'pkg-config, shunt-signals' signals_pkg_config
	row 'pkg-config, shunt-agent' agent_pkg_config
	link=-static
	row 'pkg-config --static, static executable' installed_pkg_config --static
	row 'pkg-config --static, shunt-signals' signals_pkg_config --static
	link=
	if [ -n "$all" ]; then
		row 'pkg-config, uninstalled' uninstalled_pkg_config
		row 'pkg-config, uninstalled, shunt-signals' signals_uninstalled
		row 'pkg-config, uninstalled, shunt-agent' agent_uninstalled
	fi
	row 'pkg-config, uninstalled, a folder with a space' uninstalled_spaced
	row 'pkg-config, a prefix with a space' prefix_spaced
	row 'pkg-config, uninstalled: no folder of system names' system_headers
	case $compiler in
	*clang*) cxx=clang++ ;;
	*) cxx=g++ ;;
	esac
	if have "$cxx"; then
		row 'pkg-config, C++' cxx_pkg_config
	else
		skip 'pkg-config, C++' "no $cxx"
	fi
else
	skip 'pkg-config' 'no pkg-config'
fi

# ------------------------------------------------------------------------- CMake

with_cmake() { # with_cmake TARGET [SECOND-TARGET]
	mkdir "$dir/cmake-$1$2" && cd "$dir/cmake-$1$2" || return
	cat >CMakeLists.txt <<-END
		cmake_minimum_required(VERSION 3.13)
		project(consumer C)
		find_package(Shunt 0.1 REQUIRED)
		add_executable(consumer $program)
		target_link_libraries(consumer PRIVATE Shunt::$1 $2)
	END
	cmake -DCMAKE_C_COMPILER="${compiler##* }" -DCMAKE_PREFIX_PATH="${at:-$prefix}" -S . -B b &&
		cmake --build b && b/consumer
}

# Of the installed files all programs at once: to configure takes CMake longer than to compile them.
# The baked one has its table and no relocations, and its calls are direct when stripped.
installed_cmake() {
	mkdir "$dir/cmake-installed" && cd "$dir/cmake-installed" || return
	cat >CMakeLists.txt <<-END
		cmake_minimum_required(VERSION 3.13)
		project(consumer C)
		find_package(Shunt 99 QUIET)
		message(STATUS "Shunt 99: \${Shunt_FOUND}")
		find_package(Shunt 0.1 REQUIRED)
		add_executable(consumer $program)
		target_link_libraries(consumer PRIVATE Shunt::shunt)
		add_executable(static $program)
		target_link_libraries(static PRIVATE Shunt::shunt_static)
		add_executable(signals $program)
		target_link_libraries(signals PRIVATE Shunt::shunt Shunt::signals)
		add_executable(agent $program)
		target_link_libraries(agent PRIVATE Shunt::shunt Shunt::agent)
		add_executable(recorded $source/tests/package/recorded.c)
		target_link_libraries(recorded PRIVATE Shunt::trace)
	END
	[ ! -x "$prefix/bin/shunt" ] || cat >>CMakeLists.txt <<-END
		add_executable(baked $program)
		target_link_libraries(baked PRIVATE Shunt::shunt)
		shunt_bake(baked)
	END
	cmake -DCMAKE_C_COMPILER="${compiler##* }" -DCMAKE_PREFIX_PATH="$prefix" -S . -B b >"$dir/configured" &&
		cat "$dir/configured" && cmake --build b
}
by_cmake() { "$dir/cmake-installed/b/$1"; }
without_symbols() { strip -s "$dir/cmake-installed/b/$1" -o "$dir/stripped" && "$dir/stripped"; }
without_bake() { ! without_symbols consumer; }
too_new_for_cmake() { grep -x -e '-- Shunt 99: 0' "$dir/configured"; }

# The library built by the project itself, once, for several programs: with_source NAME COMMANDS LINES-OF-CMAKE [Debug|none].
# Debug: without optimisation, and nothing but what the consumer needs; none: it is not built.
with_source() {
	mkdir "$dir/cmake-$1" && cd "$dir/cmake-$1" || return
	cat >CMakeLists.txt <<-END
		cmake_minimum_required(VERSION 3.14)
		project(consumer C)
		$2
		add_executable(consumer $program)
		$3
	END
	cmake -DCMAKE_C_COMPILER="${compiler##* }" -DCMAKE_BUILD_TYPE="${4-}" -S . -B b || return
	[ "${4-}" != none ] || return 0
	if [ $# -gt 3 ]; then cmake --build b -j2 --target consumer; else cmake --build b -j2; fi && b/consumer
}

# The program names no function of libshunt-signals: whether it is there all the same.
signals_linked() { # signals_linked PROGRAM [FOLDER]
	readelf -d "$dir/cmake-${2:-subdirectory}/b/$1" | grep 'NEEDED.*libshunt-signals.so.0' ||
		nm "$dir/cmake-${2:-subdirectory}/b/$1" | grep 'T sigpause$'
}

source_subdirectory() {
	with_source subdirectory "add_subdirectory($source shunt)" "
		target_link_libraries(consumer PRIVATE Shunt::shunt)
		add_executable(signals $program)
		target_link_libraries(signals PRIVATE Shunt::shunt Shunt::signals)
		add_executable(signals-static $program)
		target_link_libraries(signals-static PRIVATE Shunt::shunt_static Shunt::signals_static -static)
		add_executable(recorded $source/tests/package/recorded.c)
		target_link_libraries(recorded PRIVATE Shunt::trace)
		add_executable(agent $program)
		target_link_libraries(agent PRIVATE Shunt::shunt Shunt::agent)"
}
source_signals() { "$dir/cmake-subdirectory/b/$1" && signals_linked "$1"; }
no_signals_without() { ! signals_linked consumer; }
source_spaced() {
	with_source 'with space' "$fetch_content" \
		'target_link_libraries(consumer PRIVATE Shunt::shunt Shunt::signals)' Debug &&
		signals_linked consumer 'with space'
}
installed_spaced() { # with a space in the prefix, and in the name of the project's folder
	cp -a "$dir/root" "$dir/other root" &&
		at="$dir/other root${prefix#"$dir/root"}" && with_cmake shunt 'Shunt::signals Shunt::agent'
}
# The program names no function of it, and has it all the same.
source_agent() {
	"$dir/cmake-subdirectory/b/agent" &&
		readelf -d "$dir/cmake-subdirectory/b/agent" | grep 'NEEDED.*libshunt-agent.so.0' &&
		! readelf -d "$dir/cmake-subdirectory/b/consumer" | grep 'NEEDED.*libshunt-agent'
}

fetch_content="include(FetchContent)
FetchContent_Declare(shunt SOURCE_DIR $source)
FetchContent_MakeAvailable(shunt)"

if [ -z "$all" ]; then
	skip 'CMake' 'with --all'
elif have cmake; then
	row 'CMake, find_package(): configures and builds' installed_cmake
	row 'CMake, Shunt::shunt' by_cmake consumer
	row 'CMake, add_subdirectory' source_subdirectory
	row 'CMake, add_subdirectory, Shunt::signals' source_signals signals
	row 'CMake, add_subdirectory, Shunt::signals_static, static executable' source_signals signals-static
	row 'control: without it the same check fails' no_signals_without
	row 'CMake, add_subdirectory, Shunt::trace' "$dir/cmake-subdirectory/b/recorded"
	row 'CMake, add_subdirectory, Shunt::agent, and not without it' source_agent
	row 'CMake, Shunt::trace' by_cmake recorded
	if [ -x "$prefix/bin/shunt" ]; then
		row 'CMake, shunt_bake(), stripped' without_symbols baked
		row 'control: stripped without it' without_bake
	else
		skip 'CMake, shunt_bake()' 'no shunt program'
	fi
	row 'CMake, Shunt::signals' by_cmake signals
	row 'CMake, Shunt::agent' by_cmake agent
	row 'CMake, Shunt::signals and Shunt::agent, a prefix with a space' installed_spaced
	row 'CMake, FetchContent, Shunt::signals, a folder with a space' source_spaced
	row 'CMake, Shunt::shunt_static' by_cmake static
	row 'CMake, a version that there is not' too_new_for_cmake
else
	skip 'CMake' 'no cmake'
fi

# ---------------------------------------------------------------- Meson subproject

with_meson() { # one program with dependency('shunt'), one with static: true
	mkdir -p "$dir/meson/subprojects/shunt" && cd "$dir/meson" || return
	for part in meson.build meson_options.txt src include packaging doc tests examples demo \
		tools bench; do
		[ ! -e "$source/$part" ] || ln -s "$source/$part" subprojects/shunt/
	done
	cp "$program" .
	cat >meson.build <<-END
		project('consumer', 'c')
		executable('consumer', 'consumer.c', dependencies: dependency('shunt'))
		executable('consumer-static', 'consumer.c', dependencies: dependency('shunt', static: true))
	END
	export PKG_CONFIG_LIBDIR=/nonexistent CC="$compiler"
	meson setup b && ninja -C b consumer consumer-static && b/consumer && readelf -d b/consumer | grep 'NEEDED.*libshunt' &&
		! grep -l 'consumer.p.*cmocka\|subprojects/shunt/tests/' b/build.ninja
}

# The libraries that no name of the program's asks for, where the folder has a space in its name; baked as shunt-packaging(7) has it.
meson_builds() {
	mkdir "$dir/meson-installed" && cd "$dir/meson-installed" && spaced_files "$build" "$build/meson-uninstalled" || return
	cp "$program" .
	cat >meson.build <<-END
		project('consumer', 'c')
		executable('agent', 'consumer.c',
		  dependencies: [dependency('shunt'), dependency('shunt-signals'), dependency('shunt-agent')])
	END
	[ ! -x "$prefix/bin/shunt" ] || cat >>meson.build <<-END
		linked = executable('consumer-linked', 'consumer.c', dependencies: dependency('shunt'))
		custom_target('consumer', input: linked, output: 'consumer', build_by_default: true,
		  command: [find_program('shunt'), 'bake', '-o', '@OUTPUT@', '@INPUT@'])
	END
	PKG_CONFIG_PATH="$dir/spaced" PATH="$prefix/bin:$PATH" CC="$compiler" meson setup b && ninja -C b
}
meson_agent() {
	"$dir/meson-installed/b/agent" && readelf -d "$dir/meson-installed/b/agent" | grep 'NEEDED.*libshunt-agent.so.0'
}
meson_baked() { strip -s "$dir/meson-installed/b/consumer" && "$dir/meson-installed/b/consumer"; }

if have pkg-config; then
	row 'Meson, uninstalled, a folder with a space: builds' meson_builds
	row 'Meson, shunt-signals and shunt-agent' meson_agent
else
	skip 'Meson, shunt-signals and shunt-agent' 'no pkg-config'
fi

if [ -x "$prefix/bin/shunt" ] && have pkg-config; then
	row 'Meson, baked, stripped' meson_baked
else
	skip 'Meson, baked' 'no shunt program or pkg-config'
fi

with_meson_static() {
	"$dir/meson/b/consumer-static" && ! readelf -d "$dir/meson/b/consumer-static" | grep 'NEEDED.*libshunt'
}

if [ -n "$all" ]; then
	row 'Meson subproject' with_meson
	row 'Meson subproject, static' with_meson_static
fi
finish
