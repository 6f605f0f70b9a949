#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A program that uses all of the public headers compiles without a warning, whatever warnings its author
# has asked for: each standard, both compilers, with a port and without, at -O0 and -O2. All but
# those of clang's -Weverything that are about names with underscores, older standards and plain arrays. TAP.
#
# Control: the same file behind a line of the user's own that one of these warnings is for.
# Usage: warnings.sh INCLUDE-DIR [all]
# Without "all": the oldest and the newest standard with -O2 and a port, some of the others at -O0, and without a port.

set -u

include=$1 all=${2-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0
failed=0

cat > "$dir/program" << 'EOF'
#include <shunt/control.h>
#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>
#include <shunt/trace.h>
#include <shunt/version.h>
#ifdef __cplusplus
#define NONE nullptr
#else
#define NONE NULL
#endif
int one(int x);
int two(int x);
void nothing(int x);
double third(double x, const char *name);
int one(int x) { return x; }
int two(int x) { return x + 1; }
void nothing(int x) { (void)x; }
double third(double x, const char *name) { return name ? x : x / 2.; }
/* As a header has them, once or twice, and the file that defines the keys. */
DECLARE_STATIC_CALL(plain, one);
DECLARE_STATIC_CALL(plain, one);
DEFINE_STATIC_CALL(plain, one);
EXPORT_STATIC_CALL(plain);
DEFINE_STATIC_CALL(real, third);
DEFINE_STATIC_CALL_NULL(null, nothing);
DEFINE_STATIC_CALL_RET0(zero, one);
DECLARE_STATIC_KEY_FALSE(off);
DECLARE_STATIC_KEY_FALSE(off);
DEFINE_STATIC_KEY_FALSE(off);
EXPORT_STATIC_KEY(off);
DEFINE_STATIC_KEY_TRUE(on);
DECLARE_STATIC_KEY_ARRAY_TRUE(many, 4);
DEFINE_STATIC_KEY_ARRAY_TRUE(many, 4);
static DEFINE_STATIC_KEY_FALSE(private_key);
DECLARE_STATIC_KEY_MAYBE(CONFIG_NONE, maybe);
DEFINE_STATIC_KEY_MAYBE(CONFIG_NONE, maybe);
STATIC_CALL_CHOICE(plain, one);
STATIC_CALL_CHOICE(plain, two);
SHUNT_GENERAL_REGS static void count(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				     struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)fregs;
	(void)ops;
}
int traced(struct ftrace_ops *ops, struct fgraph_ops *graph);
int traced(struct ftrace_ops *ops, struct fgraph_ops *graph)
{
	ops->func = count;
	return ftrace_set_filter(ops, "parse_*", 0, 1) + register_ftrace_function(ops) + register_ftrace_graph(graph);
}
int main(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_update(plain, two);

	ret |= static_call_update(null, NONE);
	ret |= static_call_update(zero, STATIC_CALL_RET0);
	static_call_cond(null)(1);
	ret |= static_call_batch_add(&batch, plain, one);
	ret |= static_branch_batch_enable(&batch, &off);
	ret |= static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	if (static_branch_unlikely(&off))
		ret |= 1;
	if (static_branch_likely(&on) && static_branch_unlikely(&many[2]))
		ret |= static_branch_disable(&on);
	ret |= static_branch_inc(&on);
	ret |= static_key_count(&off);
	if (static_call_query(plain) == NONE || static_call(real)(1., "x") < 0.)
		ret = 3;
	if (static_call_query(plain) == two || static_call_query(plain)(1) != 3)
		ret = 4;
	if (static_branch_maybe(CONFIG_NONE, &maybe) || static_branch_unlikely(&private_key))
		ret = 5;
	static_key_enable(&maybe.key);
	static_key_slow_inc(&private_key.key);
	static_key_slow_dec(&private_key.key);
	if (static_key_enabled(&maybe.key) || static_key_count(&private_key) || static_key_enabled(&on))
		static_key_disable(&maybe.key);
	ret |= text_poke_bp(&batch, "\x90", 1);
	ret |= text_poke_bp(&batch, "\x90", 1, "\x90");
	return static_call(plain)(1) + ret + static_call(zero)(2);
}
EOF
echo 'extern int twice; extern int twice; int cast(const void *p); int cast(const void *p) { return *(int *)p; }' \
	> "$dir/own"

# check NAME COMPILER FLAGS...
check()
{
	name=$1
	shift
	count=$((count + 1))
	if "$@" -Werror -I"$include" -x "$lang" -c "$dir/program" -o "$dir/out.o" > "$dir/log" 2>&1; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		sed 's/^/# /' "$dir/log" | head -n 5
		failed=1
	fi
	count=$((count + 1))
	# (What stands first, and ends it, costs no reading of the headers.)
	cat "$dir/own" "$dir/program" > "$dir/control"
	if "$@" -Werror -Wfatal-errors -I"$include" -x "$lang" -c "$dir/control" -o "$dir/out.o" > "$dir/log" 2>&1; then
		echo "not ok $count - control: $name"
		failed=1
	else
		echo "ok $count - control: $name"
	fi
}

common='-Wall -Wextra -Wpedantic -Wshadow -Wundef -Wredundant-decls -Wcast-qual -Wmissing-declarations
	-Wconversion -Wsign-conversion -Wwrite-strings -Wpointer-arith -Wcast-align=strict -Wlogical-op
	-Wduplicated-cond -Wnull-dereference -Wformat=2 -Wswitch-default -Wvla -Wunused
	-Wdouble-promotion -Wfloat-equal -Winit-self -Wswitch-enum -Wcast-function-type'
c='-Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition -Wc++-compat -Wnested-externs
	-Wbad-function-cast -Wjump-misses-init'
cxx='-Wold-style-cast -Wzero-as-null-pointer-constant -Wextra-semi -Wnoexcept -Woverloaded-virtual
	-Weffc++ -Wctor-dtor-privacy'
everything='-Weverything -Wno-reserved-identifier -Wno-reserved-macro-identifier -Wno-c++98-compat
	-Wno-c++98-compat-pedantic -Wno-pre-c++20-compat -Wno-declaration-after-statement
	-Wno-unknown-warning-option -Wno-pre-c11-compat -Wno-pre-c23-compat -Wno-pre-c2x-compat -Wno-unsafe-buffer-usage'

# is_chosen: whether $std is compiled at $level, and so $generic
is_chosen()
{
	case "$all:$level:$generic:$std" in
	all:* | :-O2::c99 | :-O2::c2x | :-O2::c++11 | :-O2::c++20 | :-O0::c11 | :-O0::c++17 | :-O2:-DSHUNT_GENERIC:c99 | \
		:-O2:-DSHUNT_GENERIC:c++20) ;;
	*) return 1 ;;
	esac
}

for level in -O0 -O2; do
	for generic in '' -DSHUNT_GENERIC; do
		lang=c
		for std in c99 c11 gnu11 gnu17 c2x; do
			# shellcheck disable=SC2086 # words
			! is_chosen || check "gcc -std=$std $level $generic" gcc -std=$std $level $generic $common $c
		done
		lang='c++'
		for std in c++11 c++14 c++17 gnu++17 c++20; do
			# shellcheck disable=SC2086
			! is_chosen || check "g++ -std=$std $level $generic" g++ -std=$std $level $generic $common $cxx
		done
		# (A newer clang warns of more: at one level.)
		for clang in clang clang-19; do
			command -v $clang > /dev/null || continue
			[ $clang = clang ] || [ $level = -O2 ] || continue
			[ $clang = clang ] || [ -n "$all" ] || [ -z "$generic" ] || continue
			# (glibc makes of _Static_assert, which C99 has not, a structure with padding.)
			lang=c std=c99
			# shellcheck disable=SC2086
			! is_chosen || check "$clang -std=c99 $level $generic" $clang -std=c99 $level $generic $common $c -Wno-unknown-warning-option
			for std in c11 c2x c++11 c++17 c++20; do
				case $std in *++*) lang='c++' ;; *) lang=c ;; esac
				# shellcheck disable=SC2086
				! is_chosen || check "$clang -std=$std $level $generic" $clang -std=$std $level $generic $everything
			done
		done
	done
done
# Within extern "C", as C headers are included. (Control: so is a template.)
lang='c++'
{ echo 'extern "C" {'; cat "$dir/program"; echo '}'; } > "$dir/within"
echo 'extern "C" { template <class T> T same(T x) { return x; } }' > "$dir/own"
mv "$dir/within" "$dir/program"
for compiler in g++ clang++; do
	command -v $compiler > /dev/null && check "$compiler: within extern \"C\"" $compiler -std=c++17
done
echo "1..$count"
exit $failed
