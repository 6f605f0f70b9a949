#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Build forms*.c, *.cc and the library forms_lib.c in one way, against the libshunt of a
# build directory, and run the program:
#
#	forms.sh BUILDDIR gcc|clang COMPILER-FLAGS... [-- LINKER-FLAGS...]
#
# -static links all of it, the "library" too, into one program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
libs=$1/src
cc=$2
shift 2
case $cc in
gcc) cxx=g++ ;;
clang) cxx=clang++ ;;
esac
for tool in $cc $cxx; do
	if ! command -v $tool >/dev/null; then
		echo "1..0 # SKIP no $tool"
		exit 0
	fi
done

compile= link= static= to=compile
for arg; do
	case $arg in
	--) to=link ;;
	-static | -static-pie) static=1 link="$link $arg" ;;
	*) eval "$to=\"\$$to $arg\"" ;;
	esac
done

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
common="-g -Wall -Wextra -Werror -I$here/../../include $compile"
cd "$dir"
for f in forms forms_more; do
	$cc -std=gnu11 -D_GNU_SOURCE $common -c "$here/$f.c" -o $f.o &
done
# -Werror would have a word on an extension of C in our macros: those of the header are quiet.
for f in forms_cxx forms_cxx2; do
	$cxx -std=c++17 $common -c "$here/$f.cc" -o $f.o &
done
pic=-fPIC
[ -z "$static" ] || pic=
$cc -std=gnu11 -D_GNU_SOURCE $common $pic -c "$here/forms_lib.c" -o forms_lib.o &
# "wait" alone would not tell of a failure.
wait
for f in forms forms_more forms_cxx forms_cxx2 forms_lib; do
	if [ ! -f $f.o ]; then
		echo "Bail out! $f does not compile"
		exit 1
	fi
done
main="forms.o forms_more.o forms_cxx.o forms_cxx2.o"
if [ -n "$static" ]; then
	$cxx $compile $link $main forms_lib.o "$libs/libshunt.a" -pthread -o forms
else
	$cc $compile $link -shared forms_lib.o -L"$libs" -lshunt -Wl,-z,undefs -o libforms.so
	$cxx $compile $link -rdynamic $main -L. -lforms -L"$libs" -lshunt -Wl,-rpath,"$dir:$libs" -o forms
fi
SHUNT_LOG=0 ./forms
