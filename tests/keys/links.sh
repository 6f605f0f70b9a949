#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What a linker makes of static branches, for every compiler and linker that is installed:
#
#	links.sh BUILDDIR [all]
#
# Without "all": no gold; libraries that the linker itself has linked, and lld with ld.bfd's; clang with lld; keys that are
# declared only with gcc and g++ by bfd, gcc by lld.
#
# - a dead function with a test goes with --gc-sections, and what it refers to is not missed;
# - functions that differ in their key alone are not folded by --icf=all;
# - no function and no unwind entry of our own is empty;
# - a declaration of the other kind does not link;
# - keys that are declared and not used need not be there, those that are tested must be; an update
#   of one that is not there fails; a key that is in an archive is found there;
#   In one of clang's link-time optimisation, too, and of gcc's where the linker is asked for it;
# - a shared object that declares keys only leaves nothing that a program would have to define (gcc -fPIC),
#   and where it tests one that is in an archive, that is found there;
# - a program without keys of its own links with a library that exports some, whoever linked that;
# - an update to a trampoline is refused, which would call itself for ever.
#
# gold 2.40 dies of --emit-relocs with --gc-sections or --icf, whatever it links ("internal error in
# do_layout"): it is asked without.
#
# Control: the same with the relocations at the site taken out of the header, with handles that
# refer to their keys in earnest, with sizes that hang on labels, and without empty sections. TAP.
set -u
here=$(cd "$(dirname "$0")" && pwd)
libs=$1/src all=${2-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0
export LD_LIBRARY_PATH=$libs SHUNT_LOG=0

mkdir "$dir/old"
cp -r "$here/../../include/shunt" "$dir/old/shunt"
sed -i -e '/R_X86_64_NONE/d' -e 's/"\.Lshunt_weak_" key/key/' -e '/"\.weakref /s/".*"/"\\n"/' \
	-e 's/ - 77778b/ - " handle "/' -e '/^#if defined(__PIC__) /s/.*/#if 0/' "$dir/old/shunt/static_key.h"
sed -i -e '/pushsection static_/d' -e 's/__shunt_jumps, 16/__shunt_jumps, . - __shunt_jumps/' \
	"$dir/old/shunt/module.h"

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
cat > "$dir/called.c" << 'EOF'
#include <shunt/static_call.h>
int step(int x);
DEFINE_STATIC_CALL(called, step);
EXPORT_STATIC_CALL(called);
EOF
cat > "$dir/calls.c" << 'EOF'
#include <shunt/static_call.h>
int step(int x);
int step(int x) { return x + 1; }
DECLARE_STATIC_CALL(called, step);
int main(void) { return static_call(called)(1) != 2; }
EOF
cat > "$dir/exports.c" << 'EOF'
#include <shunt/static_call.h>
#include <shunt/static_key.h>
int step(int x);
int step(int x) { return x + 1; }
DEFINE_STATIC_CALL(called, step);
EXPORT_STATIC_CALL(called);
DEFINE_STATIC_KEY_FALSE(reads);
EXPORT_STATIC_KEY(reads);
EOF
cat > "$dir/imports.c" << 'EOF'
#include <shunt/static_call.h>
#include <shunt/static_key.h>
int step(int x);
DECLARE_STATIC_CALL(called, step);
DECLARE_STATIC_KEY_FALSE(reads);
static int twice(int x) { return 2 * x; }
static __attribute__((noinline)) int on_reads(void) { if (static_branch_unlikely(&reads)) return 10; return 0; }
int main(void)
{
	return static_call(called)(5) + on_reads() != 6 || static_call_update(called, twice) ||
	       static_branch_enable(&reads) || static_call(called)(5) + on_reads() != 20;
}
EOF
cat > "$dir/declares.c" << 'EOF'
#include "absent.h"
#ifdef __cplusplus
extern "C"
#endif
int library(void);
int library(void)
{
#ifdef COUNTS
	return static_branch_unlikely(&absent) || static_branch_inc(&absent) || !static_branch_unlikely(&absent);
#else
	return 0;
#endif
}
EOF
cat > "$dir/program.c" << 'EOF'
int library(void);
int main(void) { return library(); }
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

# What is compiled alike is compiled once: each linker has the same objects. (Starting a compiler is what this test costs.)
mkdir "$dir/objects"
new=$here/../../include

# compiled INCLUDE COMPILER SOURCE FLAGS... : $object is what it makes of it
compiled()
{
	include=$1 compiler=$2 source=$3
	shift 3
	language=c
	case $compiler in *++) language=c++ ;; esac
	object="$dir/objects/${include##*/} $compiler $source $*.o"
	[ -f "$object" ] || "$compiler" -I"$include" -I"$dir" "$@" -x $language -c "$dir/$source" -o "$object" > "$dir/log" 2>&1
}

# builds INCLUDE CC LD FLAG OPTION... : and runs; what is linked with it comes from the options
builds()
{
	include=$1 cc=$2 ld=$3 flag=$4
	shift 4
	relocs=-Wl,--emit-relocs
	[ "$ld" != gold ] || relocs=
	# shellcheck disable=SC2086 # none or one, each
	compiled "$include" "$cc" two.c -O2 -ffunction-sections -fdata-sections $flag &&
		"$cc" -fuse-ld="$ld" $relocs "$object" "$@" -o "$dir/two" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/two"
}

# other_kind INCLUDE CC LD : with a file that declares the key as the other kind
other_kind()
{
	compiled "$1" "$2" kind.c -O2 -ffunction-sections -fdata-sections || return 0 # which has to compile
	builds "$1" "$2" "$3" '' "$object"
}

# absent INCLUDE COMPILER LD FLAGS... : a program that declares keys that are not there
absent()
{
	include=$1 cc=$2 ld=$3
	shift 3
	compiled "$include" "$cc" absent.c "$@" &&
		"$cc" -fuse-ld="$ld" "$object" -o "$dir/absent" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/absent"
}

# archive CC LD FLAGS... : the key is in a member of an archive, and only an update names it
archive()
{
	cc=$1 ld=$2
	shift 2
	rm -f "$dir/lib.a"
	compiled "$new" "$cc" member.c "$@" && ar rc "$dir/lib.a" "$object" && compiled "$new" "$cc" archive.c "$@" &&
		"$cc" -fuse-ld="$ld" "$object" "$dir/lib.a" \
			-o "$dir/archive" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/archive"
}

# leaves INCLUDE COMPILER LD ARCHIVE FLAGS... : a library that declares keys, with an archive or '', and a program that ld.bfd links
# with it, the linker that misses what a library refers to
leaves()
{
	include=$1 cc=$2 ld=$3 keys=$4
	shift 4
	compiled "$include" "$cc" declares.c -fPIC "$@" &&
		"$cc" -shared -fuse-ld="$ld" "$object" ${keys:+"$keys"} -o "$dir/declares.so" \
			-L"$libs" -lshunt > "$dir/log" 2>&1 &&
		compiled "$include" gcc program.c -O1 &&
		gcc -fuse-ld=bfd "$object" "$dir/declares.so" -o "$dir/program" -L"$libs" -lshunt > "$dir/log" 2>&1 &&
		"$dir/program"
}

# optimised INCLUDE CC LD OPTION... : the key is in a member that was compiled with -flto, the program
# without, and only a call names it
optimised()
{
	include=$1 cc=$2 ld=$3 ar=gcc-ar
	shift 3
	[ "$cc" = gcc ] || ar=llvm-ar-14
	command -v "$ar" > /dev/null || ar=llvm-ar
	rm -f "$dir/lto.a"
	compiled "$include" "$cc" called.c -O2 -flto && "$ar" rc "$dir/lto.a" "$object" &&
		compiled "$include" "$cc" calls.c -O2 &&
		"$cc" -O2 -fuse-ld="$ld" "$object" "$@" "$dir/lto.a" \
			-o "$dir/optimised" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/optimised"
}

# imports INCLUDE CC LD LD-OF-THE-LIBRARY
imports()
{
	library="$dir/objects/libexports-${1##*/}-$2-$4.so"
	[ -f "$library" ] || {
		compiled "$1" "$2" exports.c -O2 -fPIC && "$2" -shared -fuse-ld="$4" -Wl,--emit-relocs "$object" \
			-o "$library" -L"$libs" -lshunt > "$dir/log" 2>&1
	} || return
	compiled "$1" "$2" imports.c -O2 && "$2" -fuse-ld="$3" -Wl,--emit-relocs "$object" "$library" \
		-o "$dir/imports" -L"$libs" -lshunt > "$dir/log" 2>&1 && "$dir/imports"
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

# (The functions above set cc.)
for gnu_or_llvm in gcc clang; do
	command -v $gnu_or_llvm > /dev/null || continue
	for ld in bfd lld gold mold; do
		command -v ld.$ld > /dev/null || continue
		case $all$gnu_or_llvm,$ld in gcc,gold | clang,bfd | clang,gold | clang,mold) continue ;; esac
		check "$gnu_or_llvm, $ld: a dead function goes" builds "$new" $gnu_or_llvm $ld -DDEAD -Wl,--gc-sections
		check "$gnu_or_llvm, $ld: no empty function" fails empty "$dir/two"
		check "$gnu_or_llvm, $ld: the other kind does not link" fails other_kind "$new" $gnu_or_llvm $ld
		case $ld in lld | gold | mold)
			check "$gnu_or_llvm, $ld: --icf=all folds nothing" builds "$new" $gnu_or_llvm $ld '' -Wl,--icf=all ;;
		esac
		check "$gnu_or_llvm, $ld: a key in an archive is found" archive $gnu_or_llvm $ld -O1
		case $gnu_or_llvm,$ld in
			clang,lld) check "$gnu_or_llvm, $ld: in one of -flto, too" \
				optimised "$new" $gnu_or_llvm $ld ;;
			gcc,bfd | gcc,gold) check "$gnu_or_llvm, $ld: in one of -flto, if it is asked for" \
				optimised "$new" $gnu_or_llvm $ld -Wl,-u,__SCK__called ;;
		esac
		for compiler in gcc g++; do
			[ $gnu_or_llvm = gcc ] && command -v $compiler > /dev/null || continue
			[ -n "$all" ] || [ $ld = bfd ] || [ $compiler,$ld = gcc,lld ] || continue
			rm -f "$dir/keys.a"
			compiled "$new" gcc member.c -fPIC && ar rc "$dir/keys.a" "$object"
			for level in -O0 -O2; do
				check "$compiler $level, $ld: a library leaves nothing of keys that it declares" \
					leaves "$new" $compiler $ld '' $level
				check "$compiler $level, $ld: the keys that a library tests are found in an archive" \
					leaves "$new" $compiler $ld "$dir/keys.a" $level -DCOUNTS
			done
		done
		for other in bfd lld gold mold; do
			[ -n "$all" ] || [ $other = $ld ] || [ $ld,$other = lld,bfd ] || continue
			! command -v ld.$other > /dev/null || check \
				"$gnu_or_llvm, $ld: keys of a library that $other linked, and none of its own" \
				imports "$new" $gnu_or_llvm $ld $other
		done
		for compiler in $gnu_or_llvm $(echo $gnu_or_llvm | sed -e 's/gcc/g++/' -e 's/clang/clang++/'); do
			command -v "$compiler" > /dev/null || continue
			case $all$compiler,$ld in g*,gold | g*,mold | g++,lld | clang*,lld) continue ;; esac
			for level in -O0 -O2; do
				check "$compiler $level, $ld: keys that are declared only" \
					absent "$new" "$compiler" $ld $level
			done
			check "$compiler, $ld: a test of such a key does not link" \
				fails absent "$new" "$compiler" $ld -O0 -DTESTS
			check "$compiler, $ld: of an element neither" \
				fails absent "$new" "$compiler" $ld -O2 -DELEMENT
			check "$compiler, $ld: an update of such a key fails" \
				absent "$new" "$compiler" $ld -O0 -DUPDATES
		done
	done
done
check 'control: handles that refer to their keys in earnest do not link' \
	fails absent "$dir/old" gcc bfd -O2
check 'control: declarations that name their keys leave that in a library' \
	fails leaves "$dir/old" gcc bfd '' -O2
if command -v ld.lld > /dev/null; then
	check 'control: without the relocation --icf=all folds' fails builds "$dir/old" gcc lld '' -Wl,--icf=all
	! command -v clang > /dev/null || check 'control: sizes that hang on labels: lld dies' \
		fails optimised "$dir/old" clang lld
	check 'control: and --gc-sections drops the entries of live functions' \
		fails builds "$dir/old" gcc lld '' -Wl,--gc-sections
fi
if command -v ld.mold > /dev/null && mold --version | grep -q 'mold 1\.'; then
	check 'control: without the empty sections mold does not link' \
		fails imports "$dir/old" gcc mold bfd
fi
echo "1..$count"
exit $failed
