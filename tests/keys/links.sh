#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What a linker makes of static branches, for every compiler and linker that is installed:
#
#	links.sh BUILDDIR
#
# - a dead function with a test goes with --gc-sections, and what it refers to is not missed;
# - functions that differ in their key alone are not folded by --icf=all;
# - no function and no unwind entry of our own is empty;
# - a declaration of the other kind does not link;
# - an update to a trampoline is refused, which would call itself for ever.
#
# gold 2.40 dies of --emit-relocs with --gc-sections or --icf, whatever it links ("internal error in
# do_layout"): it is asked without.
#
# Control: the same with the relocation at the site taken out of the header. TAP.
set -u
here=$(cd "$(dirname "$0")" && pwd)
libs=$1/src
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0
export LD_LIBRARY_PATH=$libs SHUNT_LOG=0

mkdir "$dir/old"
cp -r "$here/../../include/shunt" "$dir/old/shunt"
sed -i '/R_X86_64_NONE/d' "$dir/old/shunt/static_key.h"

cat > "$dir/two.c" << 'EOF'
#include <shunt/static_call.h>
#include <shunt/static_key.h>
DEFINE_STATIC_KEY_FALSE(reads);
DEFINE_STATIC_KEY_FALSE(writes);
int missing(int x);
static int same(int x) { return x; }
DEFINE_STATIC_CALL(step, same);
#ifdef DEAD
int dead(int x) { return static_branch_unlikely(&reads) ? missing(static_call(step)(x)) : 1; }
#endif
__attribute__((noinline)) int on_reads(void) { if (static_branch_unlikely(&reads)) return 1; return 0; }
__attribute__((noinline)) int on_writes(void) { if (static_branch_unlikely(&writes)) return 1; return 0; }
int main(void)
{
	if (static_branch_enable(&reads) || !on_reads() || on_writes())
		return 1;
	if (static_call_update(step, static_call(step)) != -22)
		return 2;
	return static_branch_disable(&reads) || static_branch_enable(&writes) || on_reads() ||
	       !on_writes() || static_call(step)(0);
}
EOF
cat > "$dir/kind.c" << 'EOF'
#include <shunt/static_key.h>
DECLARE_STATIC_KEY_TRUE(reads);
int other(void);
int other(void) { return static_branch_unlikely(&reads); }
EOF

report()
{
	count=$((count + 1))
	echo "$1 $count - $2"
	[ "$1" = ok ] || failed=1
}

# builds INCLUDE CC LD FLAGS... : and runs
builds()
{
	include=$1 cc=$2 ld=$3
	shift 3
	relocs=-Wl,--emit-relocs
	[ "$ld" != gold ] || relocs=
	# shellcheck disable=SC2086 # none or one
	"$cc" -O2 -ffunction-sections -fdata-sections -I"$include" -fuse-ld="$ld" $relocs \
		"$dir/two.c" "$@" -o "$dir/two" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/two"
}

check()
{
	what=$1
	shift
	if "$@"; then report ok "$what"; else report 'not ok' "$what"; sed 's/^/# /' "$dir/log" | head -n 3; fi
}

fails()
{
	! "$@"
}

empty()
{
	readelf -sW "$1" | awk '$4 == "FUNC" && $3 == 0 && $7 != "UND" && $8 ~ /shunt|__SCT__/ && $8 !~ /plt/' | grep .
}

for cc in gcc clang; do
	command -v $cc > /dev/null || continue
	for ld in bfd lld gold mold; do
		command -v ld.$ld > /dev/null || continue
		check "$cc, $ld: a dead function goes" builds "$here/../../include" $cc $ld -DDEAD -Wl,--gc-sections
		check "$cc, $ld: no empty function" fails empty "$dir/two"
		check "$cc, $ld: the other kind does not link" fails builds "$here/../../include" $cc $ld "$dir/kind.c"
		case $ld in lld | gold | mold)
			check "$cc, $ld: --icf=all folds nothing" builds "$here/../../include" $cc $ld -Wl,--icf=all ;;
		esac
	done
done
if command -v ld.lld > /dev/null; then
	check 'control: without the relocation --icf=all folds' fails builds "$dir/old" gcc lld -Wl,--icf=all
	check 'control: and --gc-sections drops the entries of live functions' \
		fails builds "$dir/old" gcc lld -Wl,--gc-sections
fi
echo "1..$count"
exit $failed
