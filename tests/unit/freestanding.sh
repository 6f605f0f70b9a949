#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Holds the core to its word: freestanding, and fit for ring 0 as it is.
# Usage: freestanding.sh LIBSHUNT-CORE.A SOURCE-ROOT CC...
#
#   - nothing is undefined in it but the port and the two static-call helpers
#   - it touches no vector or x87 register and no thread-local storage
#   - it links without libc, and runs (freestanding_main.c)
#
# Each check is first shown to catch an object that breaks its rule.

set -eu

core=$1 root=$2
shift 2

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

die()
{
	echo "freestanding.sh: $*" >&2
	exit 1
}

# What the core may ask for. The last one is made by the linker.
allowed='^(shunt_port_[a-z_]+|__static_call_nop|__static_call_return0|_GLOBAL_OFFSET_TABLE_)$'

# undefined FILE: the symbols that it needs and may not.
undefined()
{
	nm --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u > "$dir/defined"
	nm --undefined-only "$1" | awk 'NF == 2 { print $2 }' | sort -u > "$dir/undefined"
	comm -13 "$dir/defined" "$dir/undefined" | grep -Ev "$allowed" || true
}

# registers FILE: the instructions that use state which it must leave alone.
registers()
{
	objdump -d --no-show-raw-insn "$1" > "$dir/disassembly"
	grep -q '^ ' "$dir/disassembly" || die "nothing to disassemble in $1"
	awk -F '\t' 'NF > 1 { print $2 }' "$dir/disassembly" > "$dir/instructions"
	grep -E '%([xyz]?mm[0-9]|st\b|k[0-7]\b)|%[fg]s:|^(f[a-z0-9]+|emms|v?(ld|st)mxcsr)\b' \
		"$dir/instructions" || true
}

# ------------------------------------------------------------ negative controls

# control CHECK PATTERN CC...: CHECK finds PATTERN in the object of the source on stdin.
control()
{
	check=$1 pattern=$2
	shift 2
	cat > "$dir/bad.c"
	"$@" -O2 -c "$dir/bad.c" -o "$dir/bad.o"
	"$check" "$dir/bad.o" | grep -Eq -- "$pattern" ||
		die "negative control: $check does not see $pattern"
}

control undefined '^memcpy$' "$@" -ffreestanding <<- 'END'
	void *memcpy(void *, const void *, unsigned long);
	void copy(void *to, const void *from, unsigned long n);
	void copy(void *to, const void *from, unsigned long n) { memcpy(to, from, n); }
END
control undefined '^shunt_sort$' "$@" -ffreestanding <<- 'END'
	void shunt_sort(void);
	void sort(void);
	void sort(void) { shunt_sort(); }
END
control registers 'xmm' "$@" <<- 'END'
	double half(double x);
	double half(double x) { return x / 2; }
END
control registers '^f' "$@" <<- 'END'
	long double half(long double x);
	long double half(long double x) { return x / 2; }
END
control registers '%fs:' "$@" <<- 'END'
	static __thread int n;
	int next(void);
	int next(void) { return ++n; }
END

# --------------------------------------------------------------------- the core

found=$(undefined "$core")
[ -z "$found" ] || die "the core needs $found"

# A library that is empty, or only looks so, must not pass.
nm --defined-only "$core" | grep -q ' T shunt_poke_batch$' || die "$core has no shunt_poke_batch"

found=$(registers "$core")
[ -z "$found" ] || die "the core uses: $found"

"$@" -std=gnu11 -O1 -g -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-protector \
	-fno-pie -nostdlib -static -Wl,-e,freestanding_start \
	-I "$root/include" -iquote "$root/src" \
	"$root/tests/unit/freestanding_main.c" -Wl,--whole-archive "$core" -Wl,--no-whole-archive \
	-o "$dir/main"
[ -z "$(nm --undefined-only "$dir/main")" ] || die "the program has undefined symbols"
status=0
"$dir/main" || status=$?
[ "$status" -eq 0 ] || die "freestanding_main.c: line $status is wrong"
echo "$(nm --undefined-only "$core" | awk 'NF == 2 { print $2 }' | grep -Ec '^shunt_port_') uses of the port," \
	"$(wc -l < "$dir/instructions") instructions, linked alone and run"
