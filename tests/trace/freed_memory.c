/* SPDX-License-Identifier: MIT */
/*
 * A module's entries and names are looked for, and there is no memory for some of it: what was had
 * is given back, and found again by the next one. Each piece of memory of whole pages in turn is
 * not to be had at the first register; behind the second there is as much as where none failed.
 *
 * *Control:* what is given back first is not.
 */
#include <errno.h>

#include <shunt/ftrace.h>
#include <shunt/port.h>

#include "counting.h"
#include "tap.h"

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5)))
#endif

TRACED unsigned long traced(unsigned long argument);
TRACED unsigned long traced(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

enum { PAGE = 4096 };

static struct piece {
	void *at;
	size_t size;
} pieces[512];        /* that are held */
static int left = -1; /* of them that are had before one is not; below 0: all are */
#ifdef CONTROL
static bool is_kept;
#endif

static struct piece *find(const void *at)
{
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		if (pieces[i].at == at)
			return &pieces[i];
	return NULL;
}

static long held(void)
{
	size_t all = 0;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		all += pieces[i].at ? pieces[i].size : 0;
	return (long)all;
}

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size)
{
	struct piece *piece = find(NULL);
	void *p;

	if (size % PAGE || !piece)
		return __real_shunt_port_alloc(size);
	if (left >= 0 && !left--)
		return NULL;
	p = __real_shunt_port_alloc(size);
	*piece = (struct piece){p, size};
	return p;
}

void __real_shunt_port_free(void *p, size_t size);
void __wrap_shunt_port_free(void *p, size_t size);
void __wrap_shunt_port_free(void *p, size_t size)
{
	struct piece *piece = p ? find(p) : NULL;

#ifdef CONTROL
	if (piece && !is_kept) {
		is_kept = true;
		return;
	}
#endif
	if (piece)
		piece->at = NULL;
	__real_shunt_port_free(p, size);
}

/* With the piece number @n missing at first; -1: none. What is held then; -1: it did not work. */
static long register_without(int n, bool *fewer)
{
	int ret;

	left = n;
	ret = register_ftrace_function(&ops);
	*fewer = left >= 0;
	left = -1;
	if (ret && ret != -ENOMEM)
		return -1;
	/* A module that could not be looked at is looked at again. */
	if ((!ret && unregister_ftrace_function(&ops)) || register_ftrace_function(&ops))
		return -1;
	called = 0;
	return traced(1) == 2 && called == 1 ? held() : -1;
}

static int ends[2];

/* Each in a process of its own. */
static long in_process(int n, bool *fewer)
{
	struct {
		long held;
		bool fewer;
	} said = {-1, true};
	pid_t pid = fork();

	if (!pid) {
		said.held = register_without(n, &said.fewer);
		_exit(write(ends[1], &said, sizeof(said)) != sizeof(said));
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid || read(ends[0], &said, sizeof(said)) < 0)
		return -1;
	*fewer = said.fewer;
	return said.held;
}

int main(void)
{
	bool fewer = false, good = !pipe(ends);
	long wanted = good ? in_process(-1, &fewer) : -1;
	int n = 0;

	for (fewer = false; good && !fewer && n < 200; n++) {
		long now = in_process(n, &fewer);

		if (now == wanted)
			continue;
		printf("# without piece %d: %ld bytes, not %ld\n", n, now, wanted);
		good = false;
	}
	row(good && wanted > 0 && n > 2, "what could be had of a module's memory is given back");
	printf("# %d pieces, %ld bytes\n", n - 1, wanted);
	return end_rows();
}
