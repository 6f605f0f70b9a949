#!/bin/sh
# SPDX-License-Identifier: MIT
# Fuzzes with libFuzzer and the sanitizers; the seeds are small files of each compiler
# and linker, as linked and baked.
#
#	tests/tool/fuzz.sh WHAT SHUNT DIR [OPTION...]
#
# WHAT is one of
#	bake   what reads ELF files, and `shunt bake` (fuzz_bake.c)
#	elf    the library's ELF reader, scan and baked table (fuzz_elf.c)
#	smoke  elf, 20,000 inputs that are the same each time, as a test (TAP); and its
#	       negative control: a wrong check in the reader (fuzz_planted.h) is found
#
# SHUNT is the program, DIR keeps fuzzer, seeds and findings, the options are
# libFuzzer's, such as -max_total_time=600.
set -eu
what=$1
shunt=$(realpath "$2")
dir=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
top=$here/../..

# build OUTPUT ARGUMENT...
build()
{
	out=$1
	shift
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-std=gnu11 -D_GNU_SOURCE -DSHUNT_NO_MODULE -iquote "$top/src" -I "$top/include" \
		-I "$top/tools" "$top"/src/linux/elf/*.c "$top/src/arch/x86_64/insn.c" \
		"$top/src/arch/x86_64/elf_code.c" \
		"$@" -o "$out"
}

# The CPU that is not the program's own (src/arch/foreign.h): its objects.
foreign()
{
	for source in "$top"/src/arch/aarch64/elf_code.c "$top"/src/arch/aarch64/insn.c \
		"$top"/tools/bake_form.c; do
		object=$dir/foreign_$(basename "$source" .c).o
		clang -g -O1 -fsanitize=fuzzer-no-link,address,undefined \
			-fno-sanitize-recover=undefined -std=gnu11 -D_GNU_SOURCE -DSHUNT_NO_MODULE \
			-iquote "$top/src" -I "$top/include" -I "$top/tools" \
			-include "$top/src/arch/foreign.h" -DSHUNT_CPU_AARCH64 \
			-DSHUNT_FOREIGN=foreign -c "$source" -o "$object"
		echo "$object"
	done
}

# build_bake OUTPUT
build_bake()
{
	build "$1" "$here/fuzz_bake.c" "$top"/tools/bake_[cefiot]*.c "$top"/tools/inventory*.c \
		"$top/tools/file_cpu.c" "$top/tools/pointers.c" $(foreign) "$top/src/core/static_call.c" \
		"$top"/src/linux/entry/find.c "$top"/src/linux/entry/find_[cft]*.c \
		"$top/src/arch/x86_64/entries.c" "$top/src/arch/x86_64/operands.c" \
		"$top/src/core/sort.c" "$top/src/linux/base/vector.c" \
		"$top/src/arch/x86_64/stubs.S"
}

# build_elf OUTPUT ARGUMENT...
build_elf()
{
	out=$1
	shift
	build "$out" "$@" "$here/fuzz_elf.c" "$top/src/linux/module/find_sites.c" \
		"$top/src/linux/module/got_slots.c" "$top/src/linux/module/tramp.c" "$top/src/linux/module/baked.c" \
		"$top/src/linux/module/image.c" "$top/src/linux/base/registry.c" "$top/src/linux/base/vector.c" "$top/src/linux/base/format.c" \
		"$top/src/core/sort.c"
}

# Not to be run, so without a C library: small.
# link OUTPUT COMPILER ARGUMENT...
link()
{
	out=$1
	shift
	"$@" -O1 -fpatchable-function-entry=5 -I "$top/include" -nostdlib -nostartfiles \
		-Wl,--emit-relocs,--unresolved-symbols=ignore-all,--entry=0 -o "$out"
	"$shunt" bake -o "$out.baked" "$out" >/dev/null
}

# seeds COMPILER OPTION
seeds()
{
	name=$dir/seeds/$1$(echo "$2" | tr -dc '[:lower:]')
	link "$name.so" "$1" "$2" -fPIC -shared -Wl,--build-id "$here/fixture_lib.c"
	link "$name.pie" "$1" "$2" -fPIE -pie "$here/fixture.c" "$here/fixture_jcc.S" "$name.so"
	link "$name.exe" "$1" "$2" -fno-pie -no-pie "$here/fixture.c" "$here/fixture_jcc.S" \
		"$name.so"
}

# run FUZZER OPTION...
run()
{
	fuzzer=$1
	shift
	"$fuzzer" -max_len=24000 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
		-artifact_prefix="$dir/" "$@" "$dir/corpus" "$dir/seeds"
}

tell()
{
	sed -n 's/^stat::number_of_executed_units: */# inputs: /p; s/^sites:/# &/p
		/^==.*ERROR/s/^/# /p' "$dir/log"
}

smoke()
{
	runs=20000
	build_elf "$dir/fuzz_elf"
	build_elf "$dir/fuzz_planted" -include "$here/fuzz_planted.h"
	seeds gcc -fplt
	seeds gcc -fno-plt
	if run "$dir/fuzz_elf" -seed=1 -runs=$runs >"$dir/log" 2>&1 &&
		grep -q '^sites: [1-9]' "$dir/log"; then
		echo "ok 1 - the ELF reader and the scan: $runs inputs"
	else
		echo "not ok 1 - the ELF reader and the scan"
	fi
	tell
	rm -r "$dir/corpus"
	mkdir "$dir/corpus"
	if run "$dir/fuzz_planted" -seed=1 -runs=$runs >"$dir/log" 2>&1; then
		echo "not ok 2 - a check that is wrong by one is not found"
	elif grep -q 'ERROR: AddressSanitizer' "$dir/log"; then
		echo "ok 2 - negative control: a check that is wrong by one is found"
	else
		echo "not ok 2 - the negative control ends in another way"
	fi
	tell
	echo "1..2"
}

case $what in
smoke)
	if ! echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
		clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; then
		echo '1..0 # SKIP no clang with libFuzzer'
		exit 0
	fi
	rm -rf "$dir"
	mkdir -p "$dir/seeds" "$dir/corpus"
	smoke
	;;
bake | elf)
	mkdir -p "$dir/seeds" "$dir/corpus"
	"build_$what" "$dir/fuzz_$what"
	for cc in gcc clang; do
		for option in -fplt -fno-plt -Wl,-z,pack-relative-relocs -fuse-ld=lld; do
			seeds $cc $option
		done
	done
	run "$dir/fuzz_$what" "$@"
	;;
*) exit 2 ;;
esac
