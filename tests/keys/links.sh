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
# - keys that are declared and not used need not be there, those that are tested must be; an update
#   of one that is not there fails; a key that is in an archive is found there;
# - an update to a trampoline is refused, which would call itself for ever.
#
# gold 2.40 dies of --emit-relocs with --gc-sections or --icf, whatever it links ("internal error in
# do_layout"): it is asked without.
#
# Control: the same with the relocations at the site taken out of the header, and with handles that
# refer to their keys in earnest. TAP.
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
sed -i -e '/R_X86_64_NONE/d' -e 's/"\.Lshunt_weak_" key/key/' -e '/"\.weakref /s/".*"/"\\n"/' \
	"$dir/old/shunt/static_key.h"

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

cat > "$dir/absent.h" << 'EOF'
#include <shunt/static_call.h>
#include <shunt/static_key.h>
DECLARE_STATIC_KEY_FALSE(absent);
DECLARE_STATIC_KEY_TRUE(absent_too);
DECLARE_STATIC_KEY_ARRAY_FALSE(absent_array, 3);
#ifdef __cplusplus
extern "C"
#endif
int absent_function(int x);
DECLARE_STATIC_CALL(absent_call, absent_function);
static inline int tests(void) { return static_branch_unlikely(&absent) ? 1 : 2; }
static inline int tests_too(void) { return static_branch_likely(&absent_too) ? 1 : 2; }
static inline int tests_element(void) { return static_branch_unlikely(&absent_array[2]) ? 1 : 2; }
static inline int calls(void) { return static_call(absent_call)(1); }
static inline int sets(void) { return static_call_update(absent_call, absent_function); }
EOF
cat > "$dir/absent.c" << 'EOF'
#include "absent.h"
int main(void)
{
#if defined(TESTS)
	return tests();
#elif defined(ELEMENT)
	return tests_element();
#elif defined(UPDATES)
	return !(static_branch_enable(&absent) == -22 && static_branch_inc(&absent_array[1]) == -22 &&
		 static_branch_dec(&absent_too) == -22 && !static_key_count(&absent));
#else
	return 0;
#endif
}
EOF
cat > "$dir/member.c" << 'EOF'
#include <shunt/static_key.h>
DEFINE_STATIC_KEY_FALSE(absent);
DEFINE_STATIC_KEY_TRUE(absent_too);
DEFINE_STATIC_KEY_ARRAY_FALSE(absent_array, 3);
EOF
cat > "$dir/archive.c" << 'EOF'
#include "absent.h"
int main(void) { return static_branch_enable(&absent) || static_key_count(&absent_array[2]); }
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

# absent INCLUDE COMPILER LD FLAGS... : a program that declares keys that are not there
absent()
{
	include=$1 cc=$2 ld=$3
	shift 3
	language=c
	case $cc in *++) language=c++ ;; esac
	"$cc" -I"$include" -I"$dir" -fuse-ld="$ld" "$@" -x $language "$dir/absent.c" -x none \
		-o "$dir/absent" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/absent"
}

# archive CC LD FLAGS... : the key is in a member of an archive, and only an update names it
archive()
{
	cc=$1 ld=$2
	shift 2
	rm -f "$dir/lib.a"
	"$cc" -I"$here/../../include" "$@" -c "$dir/member.c" -o "$dir/member.o" > "$dir/log" 2>&1 &&
		ar rc "$dir/lib.a" "$dir/member.o" &&
		"$cc" -I"$here/../../include" "$@" -fuse-ld="$ld" "$dir/archive.c" "$dir/lib.a" \
			-o "$dir/archive" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/archive"
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
		check "$cc, $ld: a key in an archive is found" archive $cc $ld -O1
		for compiler in $cc $(echo $cc | sed -e 's/gcc/g++/' -e 's/clang/clang++/'); do
			command -v "$compiler" > /dev/null || continue
			for level in -O0 -O2; do
				check "$compiler $level, $ld: keys that are declared only" \
					absent "$here/../../include" "$compiler" $ld $level
			done
			check "$compiler, $ld: a test of such a key does not link" \
				fails absent "$here/../../include" "$compiler" $ld -O0 -DTESTS
			check "$compiler, $ld: of an element neither" \
				fails absent "$here/../../include" "$compiler" $ld -O2 -DELEMENT
			check "$compiler, $ld: an update of such a key fails" \
				absent "$here/../../include" "$compiler" $ld -O0 -DUPDATES
		done
	done
done
check 'control: handles that refer to their keys in earnest do not link' \
	fails absent "$dir/old" gcc bfd -O2
if command -v ld.lld > /dev/null; then
	check 'control: without the relocation --icf=all folds' fails builds "$dir/old" gcc lld -Wl,--icf=all
	check 'control: and --gc-sections drops the entries of live functions' \
		fails builds "$dir/old" gcc lld -Wl,--gc-sections
fi
echo "1..$count"
exit $failed
