#!/bin/sh
# SPDX-License-Identifier: MIT
# Fuzzes `shunt bake` and the ELF reader with libFuzzer and the sanitizers; the
# seeds are small files of each compiler and linker, as linked and baked.
#
#	tests/tool/fuzz_bake.sh SHUNT DIR [OPTION...]
#
# SHUNT is the program, DIR keeps fuzzer, seeds and findings, the options are
# libFuzzer's, such as -max_total_time=300.
set -eu
shunt=$(realpath "$1")
dir=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
top=$here/../..
mkdir -p "$dir/seeds" "$dir/corpus"

clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -std=gnu11 \
	-D_GNU_SOURCE -DSHUNT_NO_MODULE -iquote "$top/src" -I "$top/include" -I "$top/tools" \
	"$here/fuzz_bake.c" "$top"/tools/bake_image.c "$top"/tools/scan.c "$top"/tools/words.c \
	"$top/src/linux/elf.c" "$top/src/core/static_call.c" "$top/src/core/insn.c" \
	"$top/src/arch/x86_64/stubs.S" -o "$dir/fuzz_bake"

# Not to be run, so without a C library: small.
# link OUTPUT COMPILER ARGUMENT...
link() {
	out=$1
	shift
	"$@" -O1 -I "$top/include" -nostdlib -nostartfiles \
		-Wl,--emit-relocs,--unresolved-symbols=ignore-all -o "$out"
	"$shunt" bake -o "$out.baked" "$out" >/dev/null
}
for cc in gcc clang; do
	for option in -fplt -fno-plt -Wl,-z,pack-relative-relocs -fuse-ld=lld; do
		name=$dir/seeds/$cc$(echo "$option" | tr -dc a-z)
		link "$name.so" $cc $option -fPIC -shared -Wl,--build-id "$here/fixture_lib.c"
		link "$name.pie" $cc $option -fPIE -pie \
			"$here/fixture.c" "$here/fixture_jcc.S" "$name.so"
		link "$name.exe" $cc $option -fno-pie -no-pie \
			"$here/fixture.c" "$here/fixture_jcc.S" "$name.so"
	done
done

exec "$dir/fuzz_bake" -max_len=24000 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
	-artifact_prefix="$dir/" "$@" "$dir/corpus" "$dir/seeds"
