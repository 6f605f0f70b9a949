#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What must not compile, and beside each its twin that must, so that nothing is
# refused for the wrong reason. Every compiler that is installed, several
# standards, all warnings. TAP. Usage: compile_fail.sh INCLUDE-DIR C-STANDARDS C++-STANDARDS
#
# What must compile is compiled in one file (@ is then another number in each of its parts),
# and part by part only where that fails. So is what must not, between parts that must: an
# error in such a part is that part's own, unless one was found in what is right. A part without
# one is compiled alone.

set -u

include=$1 c_standards=$2 cxx_standards=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0
kept=0
bad=0
alone=0
: > "$dir/parts"

cat > "$dir/head" << 'EOF'
#ifdef TEST_NORETURN
#include <stdnoreturn.h>
#endif
#include <shunt/static_call.h>
#include <shunt/static_key.h>
int int_int(int x);
double double_int(int x);
void void_varargs(const char *format, ...);
extern int (*pointer)(int x);
int other_int_int(int x);
long long_long(long x);
void void_int(int x);
void void_long(long x);
extern void *unknown;
__attribute__((__noreturn__)) void never(int x);
__attribute__((__returns_nonnull__)) void *always(int x);
DEFINE_STATIC_CALL(key, int_int);
DEFINE_STATIC_CALL_NULL(null_key, void_int);
DEFINE_STATIC_CALL_RET0(ret0_key, int_int);
EOF

# report GOOD NAME
report()
{
	count=$((count + 1))
	if [ "$1" = yes ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		sed 's/^/# /' "$dir/log" | head -n 5
		failed=1
	fi
}

# compiles FLAGS...: whether $dir/snippet does
compiles()
{
	# shellcheck disable=SC2086 # $compiler is a command with arguments
	$compiler -Wall -Wextra -Wpedantic -Werror -I"$include" -x "$lang" "$@" \
		"$dir/snippet" > "$dir/log" 2>&1
}

# put TEXT NAME: the body of a function NAME where it begins with a brace
put()
{
	case $1 in
	'{'*) printf '%s\n' "int $2(void); int $2(void) $1" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# keep KIND NAME TEXT: a part, for compile_all
keep()
{
	kept=$((kept + 1))
	echo "$1 $kept $2" >> "$dir/names"
	{ echo "%% $1_$kept"; put "$3" test@; } >> "$dir/parts"
}

good() { keep good "$@"; }
bad() { keep bad "$@"; }

# put_parts WHICH: those whose kind and number begin so; their lines have them as a file's name
put_parts()
{
	cat "$dir/head"
	awk -v which="$1" '/^%%/ { n = $2; if (index(n "$", which) == 1) print "#line 1 \"" n "\""; next }
		index(n "$", which) == 1 { gsub("@", "_" n); print }' "$dir/parts"
}

# compiles_part PART: alone. gcc sees an ignored result only on its way to code.
compiles_part()
{
	put_parts "$1\$" > "$dir/snippet"
	compiles -fsyntax-only && compiles -c -o "$dir/out.o"
}

# Which parts are refused among the others, in $refused: none, where that cannot be told, for a part's names are
# another's too (those with its number are its own).
find_refused()
{
	# An error within a macro is where the macro is used.
	case $compiler in clang*) all=-ferror-limit=0 ;; *) all=-ftrack-macro-expansion=0 ;; esac
	put_parts '' > "$dir/snippet"
	compiles -fsyntax-only $all
	refused=" $(sed -n 's/^\([a-z]*_[0-9]*\):[0-9:]* .*error:.*/\1/p' "$dir/log" | sort -u | tr '\n' ' ')"
	case $refused in *' good'*) refused= ;; esac
	if grep -E 'redefinition|redeclaration|conflicting' "$dir/log" | grep -Evq '_bad_[0-9]+.?.?.?( |$)'; then refused=; fi
}

# is_refused PART: among the others, or else alone
is_refused()
{
	case $refused in *" $1 "*) return 0 ;; esac
	alone=$((alone + 1))
	! compiles_part "$1"
}

# Whether what was kept does compile, and does not.
compile_all()
{
	tr -d @ < "$dir/names" > "$dir/rows"
	put_parts good > "$dir/snippet"
	if compiles -c -o "$dir/out.o"; then together=yes; else together=no; fi
	find_refused
	while read -r kind number name; do
		part=${kind}_$number
		if [ "$kind" = good ]; then
			if [ $together = yes ] || compiles_part "$part"; then right=yes; else right=no; fi
			report $right "$compiler: compiles: $name"
		else
			bad=$((bad + 1))
			if is_refused "$part"; then right=yes; else right=no; fi
			report $right "$compiler: does not compile: $name"
		fi
	done < "$dir/rows"
	kept=0
	: > "$dir/names"
	: > "$dir/parts"
}

common()
{
	good 'update' '{ return static_call_update(key, other_int_int); }'
	good 'update by address' '{ return static_call_update(key, &other_int_int); }'
	bad 'update with a wrong type' '{ return static_call_update(key, long_long); }'
	bad 'update of a void key with a wrong type' '{ return static_call_update(null_key, void_long); }'
	bad 'update with an integer' '{ return static_call_update(key, 42); }'
	good 'update to NULL' '{ return static_call_update(null_key, NULL); }'
	good 'update to RET0' '{ return static_call_update(ret0_key, STATIC_CALL_RET0); }'
	bad 'result of an update ignored' '{ static_call_update(key, int_int); return 0; }'
	good 'result of an update looked at' '{ if (static_call_update(key, int_int)) return 1; return 0; }'
	good 'call' '{ return static_call(key)(1); }'
	bad 'call with a wrong number of arguments' '{ return static_call(key)(1, 2); }'
	bad 'call with a wrong type' '{ return static_call(key)("x"); }'
	bad 'result of a void call used' '{ return static_call_cond(null_key)(1); }'
	good 'query' '{ return static_call_query(key) == NULL; }'
	bad 'a key that nobody declares' '{ return static_call(nokey)(1); }'

	good 'a noreturn key' 'DEFINE_STATIC_CALL(never_key, never);'
	good 'an update of a noreturn key' '__attribute__((__noreturn__)) void never@(int x);
		DEFINE_STATIC_CALL(never_key@, never@); int test@(void); int test@(void)
		{ if (static_call_update(never_key@, never)) return 1; return static_call_update(never_key@, &never); }'
	good 'a noreturn key updated to what it is' 'DEFINE_STATIC_CALL(never_key@, never); int test@(void);
		int test@(void) { return static_call_update(never_key@, static_call_query(never_key@)); }'
	bad 'an update of a noreturn key with a wrong type' 'DEFINE_STATIC_CALL(never_key@, never);
		__attribute__((__noreturn__)) void never_long@(long x);
		int test@(void); int test@(void) { return static_call_update(never_key@, never_long@); }'
	good 'an update of a key of a const function' '__attribute__((__const__)) int pure@(int x);
		__attribute__((__const__)) int purer@(int x); DEFINE_STATIC_CALL(pure_key@, pure@);
		int test@(void); int test@(void) { return static_call_update(pure_key@, purer@) || static_call_update(pure_key@, int_int); }'
	good 'tests of a key and of an element' 'DEFINE_STATIC_KEY_TRUE(on@); DEFINE_STATIC_KEY_ARRAY_FALSE(many@, 2);
		int test@(void); int test@(void) { if (static_branch_likely(&on@)) return 1;
		return static_branch_unlikely(&many@[1]) ? 2 : 3; }'
	for key in '&on@.key' '&off@.key' '&many@[1].key' '(struct static_key *)&on@' '(const struct static_key *)&off@'; do
		for likely in likely unlikely; do
			bad "a $likely test of $key" "DEFINE_STATIC_KEY_TRUE(on@); DEFINE_STATIC_KEY_FALSE(off@);
				DEFINE_STATIC_KEY_ARRAY_TRUE(many@, 2); int test@(void);
				int test@(void) { if (static_branch_$likely($key)) return 1; return 0; }"
		done
		bad "a switch of $key" "DEFINE_STATIC_KEY_TRUE(on@); DEFINE_STATIC_KEY_FALSE(off@);
			DEFINE_STATIC_KEY_ARRAY_TRUE(many@, 2); int test@(void);
			int test@(void) { return static_branch_enable($key); }"
		good "a switch by a pointer, $key" "DEFINE_STATIC_KEY_TRUE(on@); DEFINE_STATIC_KEY_FALSE(off@);
			DEFINE_STATIC_KEY_ARRAY_TRUE(many@, 2); int test@(void);
			int test@(void) { return static_key_enable($key) || static_key_count($key) || !static_key_enabled($key); }"
	done
	good 'an EXPORTed key' 'DEFINE_STATIC_CALL(out_key, int_int); EXPORT_STATIC_CALL(out_key);'
	if [ -z "$generic" ]; then
		bad 'a NULL key of a noreturn function' 'DEFINE_STATIC_CALL_NULL(never_key@, never);'
		bad 'a RET0 key of a noreturn function' 'DEFINE_STATIC_CALL_RET0(never_key@, never);'
	fi
	good 'a key by address' 'DEFINE_STATIC_CALL(by_address, &int_int);'
	good 'a key declared by a pointer' 'DECLARE_STATIC_CALL(by_pointer, pointer);'
	bad 'a key that starts out with a variable' 'DEFINE_STATIC_CALL(variable@, pointer);'
	good 'a NULL key of a function with variable arguments' 'DEFINE_STATIC_CALL_NULL(log@, void_varargs);'
	bad 'a NULL key of a function with a value' 'DEFINE_STATIC_CALL_NULL(value@, int_int);'
	good 'a NULL key of a function with parameters that C promotes' \
		'void small@(char c, short s, float f); DEFINE_STATIC_CALL_NULL(small_key@, small@);'
	good 'a NULL key of a function without parameters' \
		'void none@(void); DEFINE_STATIC_CALL_NULL(none_key@, &none@);'
	for result in 'struct two@ { long a, b; }; struct two@' 'double' 'struct other@; struct other@ *' 'char' \
		'const char *' 'enum colour@ { RED@ }; enum colour@' 'unsigned long long'; do
		for parameters in 'char c' 'const char *format, ...' 'void'; do
			bad "a NULL key of $result ($parameters)" \
				"$result valued@($parameters); DEFINE_STATIC_CALL_NULL(valued_key@, valued@);"
		done
	done
	for result in int 'const void *' char 'enum colour@ { RED@ }; enum colour@' 'unsigned long long'; do
		for parameters in 'char c' 'const char *format, ...' 'void' 'float f'; do
			good "a RET0 key of $result ($parameters)" \
				"$result zero@($parameters); DEFINE_STATIC_CALL_RET0(zero_key@, zero@);"
		done
	done
	for parameters in 'float f' 'float f, float g' 'double d' 'const char *name, long n'; do
		# C23, where the compiler has all of it, does not see these (static_call_types.h).
		case "$compiler $parameters" in 'clang-19 -std=c2x const'*) continue ;; esac
		for result in float double 'long double'; do
			bad "a RET0 key of $result ($parameters)" \
				"$result real@($parameters); DEFINE_STATIC_CALL_RET0(real_key@, real@);"
		done
	done
	good 'a RET0 key of a pointer to a function' 'DEFINE_STATIC_CALL_RET0(zero@, pointer);'
	case $compiler in
	'clang-19 -std=c2x') ;;
	*) bad 'a RET0 key of a function that returns double' 'DEFINE_STATIC_CALL_RET0(zero@, double_int);' ;;
	esac
	bad 'the value of static_call_cond()' '{ return static_call_cond(key)(1); }'
	good 'a key of a returns_nonnull function' 'DEFINE_STATIC_CALL(always_key, always);'
}

for cc in gcc clang clang-19; do
	command -v $cc > /dev/null || continue
	standards=$c_standards
	[ $cc != clang-19 ] || standards='c17 c2x'
	for std in $standards; do
		for generic in '' ' -DSHUNT_GENERIC'; do
			[ $cc != clang-19 ] || [ -z "$generic" ] || continue
			compiler="$cc -std=$std$generic" lang=c
			common
			good 'update with a void *' '{ return static_call_update(key, unknown); }'
			[ $cc = gcc ] && bad 'a key of a pointer to a const function' \
				'__attribute__((__const__)) int pure(int x); DEFINE_STATIC_CALL(pure_key, &pure);'
			[ $cc = gcc ] && bad 'a RET0 key of a returns_nonnull function' \
				'DEFINE_STATIC_CALL_RET0(always_key@, always);'
			compile_all
		done
	done
done
for cc in g++ clang++; do
	command -v $cc > /dev/null || continue
	for std in $cxx_standards; do
		for generic in '' ' -DSHUNT_GENERIC'; do
			compiler="$cc -std=$std$generic" lang=c++
			common
			good 'update to nullptr' '{ return static_call_update(null_key, nullptr); }'
			bad 'update with a void *' '{ return static_call_update(key, unknown); }'
			[ $cc = g++ ] && bad 'a RET0 key of a returns_nonnull function' \
				'DEFINE_STATIC_CALL_RET0(always_key@, always);'
			good 'update with a noexcept function' 'int quiet@(int) noexcept;
				int test@() { return static_call_update(key, quiet@); }'
			good 'a noexcept key' 'int quiet@(int) noexcept; DEFINE_STATIC_CALL(q@, quiet@);
				int test@() { return static_call_update(q@, quiet@); }'
			bad 'update of a noexcept key with a function that throws' \
				'int quiet@(int) noexcept; DEFINE_STATIC_CALL(q@, quiet@);
				int test@() { return static_call_update(q@, int_int); }'
			good 'update with a lambda' '{ return static_call_update(key, [](int x) { return x; }); }'
			bad 'update with a lambda that captures' \
				'{ int y = 1; return static_call_update(key, [y](int x) { return x + y; }); }'
			good 'a key in a namespace' 'namespace n { int f(int); DEFINE_STATIC_CALL(in_n, f); }
				using namespace n; int test@() { return static_call(in_n)(1); }'
			compile_all
		done
	done
done
# Macros of the program that are called as the attributes in the headers.
for word in used section retain weak naked visibility aligned constructor destructor hidden \
	protected overloadable always_inline warn_unused_result T F R A; do
	words="${words-} -D$word=1+"
done
for compiler in gcc clang g++ clang++; do
	command -v $compiler > /dev/null || continue
	lang=c
	case $compiler in *++) lang=c++ ;; esac
	compiler="$compiler$words"
	[ $lang = c++ ] || compiler="$compiler -DTEST_NORETURN"
	good 'macros called as attributes' 'DEFINE_STATIC_KEY_FALSE(flag); EXPORT_STATIC_CALL(key);
		int test(void); int test(void) { if (static_branch_unlikely(&flag)) return 1;
		return static_call(key)(1); }'
	compile_all
done
for compiler in g++ clang++; do
	command -v $compiler > /dev/null || continue
	lang=c++
	bad 'an update to RET0 of a key that returns double' 'DEFINE_STATIC_CALL(real@, double_int);
		int test@(); int test@() { return static_call_update(real@, STATIC_CALL_RET0); }'
	bad 'a RET0 key that returns a structure' 'struct three { long a[3]; }; three three_int(int);
		DEFINE_STATIC_CALL_RET0(zero@, three_int);'
	good 'a key of a function template' 'template <class T> T same(T x) { return x; }
		DEFINE_STATIC_CALL(of_template, same<int>); DEFINE_STATIC_CALL(of_address, &same<int>);'
	compile_all
done
# What clang for aarch64 would pass over: a callback that destroys the vector registers of what is traced.
for compiler in 'clang --target=aarch64-linux-gnu' 'clang-19 --target=aarch64-linux-gnu' aarch64-linux-gnu-gcc; do
	lang=c
	echo '#include <shunt/ftrace.h>' > "$dir/snippet"
	{ command -v "${compiler%% *}" && compiles -fsyntax-only; } > /dev/null 2>&1 || continue # no headers for it
	echo 'SHUNT_GENERAL_REGS int general(int x); SHUNT_GENERAL_REGS int general(int x) { return x; }' >> "$dir/snippet"
	right=no
	compiles -fsyntax-only -mgeneral-regs-only && right=yes
	report $right "$compiler -mgeneral-regs-only: compiles: SHUNT_GENERAL_REGS"
	right=no
	if compiles -fsyntax-only; then
		case $compiler in *gcc) right=yes ;; esac
	elif grep -q 'error: SHUNT_GENERAL_REGS: clang needs -mgeneral-regs-only' "$dir/log"; then
		case $compiler in clang*) right=yes ;; esac
	fi
	report $right "$compiler: SHUNT_GENERAL_REGS without that option: compiles by gcc alone; clang's error names it"
done
# A name that two parts have makes this test a hundred times as long.
: > "$dir/log"
report "$([ $((alone * 8)) -le "$bad" ] && echo yes)" "of $bad that do not compile $alone were compiled alone: an eighth at most"
echo "1..$count"
exit $failed
