#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the ELF files that test_elf.c reads: what each compiler and each linker
# that is installed makes of one set of call sites. Usage: elf_fixtures.sh DIR [COMPILER-LINKER...] [-- TEST]
# With names as gcc-bfd only these: what the reader's own compiler can make wrong shows on them. TEST is run with DIR behind it.
#
# Writes DIR/manifest, one line a file:
#
#   file lack form trampolines references build-id
#
# lack         what shunt_elf_lack has to say: nothing, symbols, relocations
# form         what a call has become: direct (e8), relaxed (67 e8), got (ff 15)
# trampolines  defined or undefined, in this file
# references   how many from text readelf counts
# build-id     in hexadecimal, or -

set -eu

src=$(cd "$(dirname "$0")" && pwd)
dir=$1
shift
only=" "
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	only="$only$1 "
	shift
done
if [ $# -gt 0 ]; then
	shift
	test=$(realpath "$1")
	shift
	set -- "$test" "$@"
fi
mkdir -p "$dir"
cd "$dir"
: > manifest

# References from text, read in another way than the library does.
references()
{
	readelf -rW "$1" | awk '
		/^Relocation section/ { text = /\.rela(\.text|elf_text)/ }
		text && / R_X86_64_(PC32|PLT32|GOTPCREL|GOTPCRELX|REX_GOTPCRELX) .* __SCT__/ { n++ }
		END { print n + 0 }'
}

# describe FILE LACK FORM TRAMPOLINES
describe()
{
	id=$(readelf -nW "$1" 2> /dev/null | sed -n 's/.*Build ID: //p')
	echo "$1 $2 $3 $4 $(references "$1") ${id:--}" >> manifest
}

# build FILE LACK FORM TRAMPOLINES COMPILER ARGUMENT...
build()
{
	file=$1 lack=$2 form=$3 trampolines=$4
	shift 4
	"$@" -Wl,--build-id=sha1 -o "$file"
	describe "$file" "$lack" "$form" "$trampolines"
}

# sites COMPILER FLAG...: an object of the sites, the same for each linker. sites=FILE
sites()
{
	sites=$(echo "$*" | tr ' ' _).o
	[ -f "$sites" ] || "$@" -c "$src/elf_sites.c" -o "$sites"
}

# link FILE LACK FORM TRAMPOLINES FLAGS ARGUMENT...: of sites that are compiled with FLAGS
link()
{
	fixture="$1 $2 $3 $4"
	# shellcheck disable=SC2086 # lists of words
	sites $compiler $5
	shift 5
	# shellcheck disable=SC2086
	build $fixture $cc "$sites" "$@"
}

# Everything that one compiler and one linker make: variants CC LINKER
variants()
{
	cc="$1 -fuse-ld=$2"
	p=$1-$2
	tramp=$1-tramp.o
	keep=-Wl,--emit-relocs
	[ -f "$tramp" ] || "$1" -c "$src/elf_tramp.S" -o "$tramp"

	link "$p-pie" nothing direct defined '-O2 -fPIE' -pie $keep "$tramp"
	link "$p-pie-os" nothing direct defined '-Os -fPIE' -pie $keep "$tramp"
	link "$p-pie-o0" nothing direct defined '-O0 -fPIE' -pie $keep "$tramp"
	link "$p-hidden" nothing direct defined '-O2 -DELF_HIDDEN -fPIE' -pie $keep "$tramp"
	link "$p-noplt" nothing relaxed defined '-O2 -fno-plt -fPIE' -pie $keep "$tramp"
	if [ "$2" != gold ]; then # it knows no static PIE, and --gc-sections kills it
		link "$p-staticpie" nothing direct defined '-O2 -fPIE' -static-pie $keep "$tramp"
		link "$p-sections" nothing direct defined '-O2 -fPIE -ffunction-sections' \
			-pie $keep -Wl,--gc-sections "$tramp"
	fi
	link "$p-nopie" nothing direct defined '-O2 -fno-pie' -no-pie $keep "$tramp"
	link "$p-static" nothing direct defined '-O2 -fno-pie' -static $keep "$tramp"
	link "$p-bare" relocations direct defined '-O2 -fPIE' -pie "$tramp"

	# Trampolines of another module, with and without a symbol version.
	# shellcheck disable=SC2086 # $cc is a command with an argument
	$cc -shared "$tramp" -o "lib$p.so"
	printf 'VERS_1 { global: __SCT__*; local: *; };\n' > "$p.map"
	# shellcheck disable=SC2086
	$cc -shared "$tramp" -Wl,--version-script="$p.map" -o "lib$p-v.so"
	link "$p-shared" nothing direct defined '-O2 -DELF_SHARED -fPIC' -shared $keep "$tramp"
	link "$p-import" nothing direct undefined '-O2 -fPIE' -pie $keep "lib$p.so"
	link "$p-import-v" nothing direct undefined '-O2 -fPIE' -pie $keep "lib$p-v.so"
	link "$p-import-noplt" nothing got undefined '-O2 -fno-plt -fPIE' -pie $keep "lib$p.so"
	link "$p-import-shared" nothing direct undefined '-O2 -DELF_SHARED -fPIC' -shared $keep "lib$p-v.so"
	link "$p-import-shared-noplt" nothing got undefined '-O2 -DELF_SHARED -fno-plt -fPIC' \
		-shared $keep "lib$p.so"

	strip -o "$p-stripped" "$p-pie"
	describe "$p-stripped" symbols direct defined
	strip --strip-unneeded -o "$p-unneeded" "$p-pie"
	describe "$p-unneeded" nothing direct defined
	strip --strip-unneeded -o "$p-import-unneeded" "$p-import-v"
	describe "$p-import-unneeded" nothing direct undefined
	strip -g -o "$p-stripg" "$p-noplt"
	describe "$p-stripg" nothing relaxed defined
}

for compiler in ${SHUNT_TEST_COMPILERS:-gcc clang}; do
	for linker in bfd lld gold; do
		case $only in
		" " | *" $compiler-$linker "*) ;;
		*) continue ;;
		esac
		if command -v "$compiler" > /dev/null &&
			echo 'int main(void) { return 0; }' |
			"$compiler" -fuse-ld=$linker -x c - -o probe 2> /dev/null; then
			variants "$compiler" "$linker"
		fi
	done
done
rm -f probe
[ $# -eq 0 ] || exec "$@" "$dir"
