/* SPDX-License-Identifier: MIT */
/*
 * The call sites of the ELF reader's fixtures: each function holds a number of
 * references to trampolines that no compiler should change, so that the test
 * can ask for exact counts.
 */
#include <stddef.h>

#define KEEP __attribute__((noinline, used))

extern int __SCT__foo(int x);
extern int __SCT__bar(int x);
extern void __SCT__baz(int x);

typedef int (*elf_fn)(int x);

int elf_plain(int x);
int elf_tail(int x);
int elf_conditional(int x);
void elf_conditional_void(int x);
int elf_two(int x);
int elf_elsewhere(int x);
elf_fn elf_taken(void);

/* One call. */
KEEP int elf_plain(int x)
{
	return __SCT__foo(x) + 1;
}

/* One jmp. */
KEEP int elf_tail(int x)
{
	return __SCT__foo(x);
}

/* One jmp. */
KEEP int elf_conditional(int x)
{
	if (x > 5) {
		return __SCT__bar(x);
	}
	return 0;
}

/* One jcc from clang -Os, one jmp from all others. */
KEEP void elf_conditional_void(int x)
{
	if (x > 5) {
		__SCT__baz(x);
	}
}

/* A call of each. */
KEEP int elf_two(int x)
{
	return __SCT__foo(x) + __SCT__bar(x + 1) + 2;
}

/* One call in another section of text, which the linker leaves on its own. */
KEEP __attribute__((section("elf_text"))) int elf_elsewhere(int x)
{
	return __SCT__bar(x) * 3;
}

/* Not a site, but a reference all the same. */
KEEP elf_fn elf_taken(void)
{
	return __SCT__foo;
}

/* A pointer in data: its relocation is no reference from text. Nobody may know its value. */
elf_fn volatile elf_pointer = __SCT__bar;

#ifndef ELF_SHARED
int main(void)
{
	int x = elf_plain(1) + elf_tail(2) + elf_conditional(6) + elf_two(3) + elf_elsewhere(4);

	elf_conditional_void(x);
	return x + elf_pointer(2) == 0;
}
#endif
