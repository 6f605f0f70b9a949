#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the ELF files that test_elf.c reads: what each compiler and each linker
# that is installed makes of one set of call sites. Usage: elf_fixtures.sh DIR
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

# Everything that one compiler and one linker make: variants CC LINKER
variants()
{
	cc="$1 -fuse-ld=$2"
	p=$1-$2
	sites=$src/elf_sites.c
	tramp=$src/elf_tramp.S
	keep=-Wl,--emit-relocs

	# shellcheck disable=SC2086 # $cc is a command with an argument
	{
		build "$p-pie" nothing direct defined $cc -O2 -fPIE -pie $keep "$sites" "$tramp"
		build "$p-pie-os" nothing direct defined $cc -Os -fPIE -pie $keep "$sites" "$tramp"
		build "$p-pie-o0" nothing direct defined $cc -O0 -fPIE -pie $keep "$sites" "$tramp"
		build "$p-hidden" nothing direct defined \
			$cc -O2 -DELF_HIDDEN -fPIE -pie $keep "$sites" "$tramp"
		build "$p-noplt" nothing relaxed defined \
			$cc -O2 -fno-plt -fPIE -pie $keep "$sites" "$tramp"
		if [ "$2" != gold ]; then # it knows no static PIE, and --gc-sections kills it
			build "$p-staticpie" nothing direct defined \
				$cc -O2 -fPIE -static-pie $keep "$sites" "$tramp"
			build "$p-sections" nothing direct defined $cc -O2 -fPIE -pie $keep \
				-ffunction-sections -Wl,--gc-sections "$sites" "$tramp"
		fi
		build "$p-nopie" nothing direct defined \
			$cc -O2 -fno-pie -no-pie $keep "$sites" "$tramp"
		build "$p-static" nothing direct defined \
			$cc -O2 -fno-pie -static $keep "$sites" "$tramp"
		build "$p-bare" relocations direct defined $cc -O2 -fPIE -pie "$sites" "$tramp"

		# Trampolines of another module, with and without a symbol version.
		$cc -shared "$tramp" -o "lib$p.so"
		printf 'VERS_1 { global: __SCT__*; local: *; };\n' > "$p.map"
		$cc -shared "$tramp" -Wl,--version-script="$p.map" -o "lib$p-v.so"
		build "$p-shared" nothing direct defined $cc -O2 -DELF_SHARED -fPIC -shared $keep \
			"$sites" "$tramp"
		build "$p-import" nothing direct undefined \
			$cc -O2 -fPIE -pie $keep "$sites" "lib$p.so"
		build "$p-import-v" nothing direct undefined \
			$cc -O2 -fPIE -pie $keep "$sites" "lib$p-v.so"
		build "$p-import-noplt" nothing got undefined \
			$cc -O2 -fno-plt -fPIE -pie $keep "$sites" "lib$p.so"
		build "$p-import-shared" nothing direct undefined \
			$cc -O2 -DELF_SHARED -fPIC -shared $keep "$sites" "lib$p-v.so"
		build "$p-import-shared-noplt" nothing got undefined $cc -O2 -DELF_SHARED -fno-plt \
			-fPIC -shared $keep "$sites" "lib$p.so"
	}

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
		if command -v "$compiler" > /dev/null &&
			echo 'int main(void) { return 0; }' |
			"$compiler" -fuse-ld=$linker -x c - -o probe 2> /dev/null; then
			variants "$compiler" "$linker"
		fi
	done
done
rm -f probe
