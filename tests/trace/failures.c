/* SPDX-License-Identifier: MIT */
/*
 * Each write of text, remap and core sync that a change makes is made to fail, one at a time: the
 * change returns an error and nothing has changed, which calls and bytes show; its message names
 * the function, the ops and the system call. Then it goes through. An entry with foreign bytes on
 * it is left alone, and traced when they have gone, by whatever change. Memory that is not to be
 * had.
 *
 * Controls: the failure is not told to the change; a change looks at nothing but what differs.
 */
#include <errno.h>

#include <shunt/inspect.h>

#include "entries.h"
#include "linux/base/base.h"
#include "tap.h"

TRACED unsigned long first(unsigned long argument);
TRACED unsigned long first(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

TRACED unsigned long second(unsigned long argument);
TRACED unsigned long second(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

static unsigned long calls_of_a, calls_of_b;

static void on_a(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		 struct ftrace_regs *fregs)
{
	calls_of_a++;
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
}

static void on_b(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		 struct ftrace_regs *fregs)
{
	calls_of_b++;
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
}

static struct ftrace_ops a = {.func = on_a}, b = {.func = on_b};

/* --------------------------------------------------------------- what fails */

static int left = -1;  /* that go through before one fails; below 0: none fails */
static bool is_broken; /* and all behind it fail */
static int fails(void)
{
	if (left < 0)
		return 0;
	if (!left && is_broken)
		return -EIO;
	return left-- ? 0 : -EIO;
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = fails();

	shunt_failed_call = ret ? "pwrite" : shunt_failed_call;
	return ret ? ret : __real_shunt_port_text_write(writes, n);
}

int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	int ret = fails();

	shunt_failed_call = ret ? "mremap" : shunt_failed_call;
	return ret ? ret : __real_shunt_port_text_remap(writes, n, stride);
}

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	int ret = fails();

	shunt_failed_call = ret ? "membarrier" : shunt_failed_call;
	return ret ? ret : __real_shunt_port_core_sync();
}

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);
static int allocs = -1; /* that go through before one fails */
void *__wrap_shunt_port_alloc(size_t size)
{
	if (allocs >= 0 && !allocs--)
		return NULL;
	return __real_shunt_port_alloc(size);
}

#ifdef CONTROL
int __wrap_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report);
int __real_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report);
int __wrap_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report)
{
#ifdef NOT_AGAIN /* what is left is not looked at where a set comes */
	(void)only;
	return __real_shunt_ftrace_change(&set, must_sync, report);
#else
	(void)__real_shunt_ftrace_change(only, must_sync, report);
	return 0;
#endif
}
#endif

/* ---------------------------------------------------------------- what is seen */

static bool see(unsigned long by_a, unsigned long by_b)
{
	bool good;

	calls_of_a = calls_of_b = 0;
	good = first(1) == 2 && second(2) == 3 && calls_of_a == by_a && calls_of_b == by_b;
	if (!good)
		printf("# A %lu, not %lu; B %lu, not %lu\n", calls_of_a, by_a, calls_of_b, by_b);
	return good;
}

static void read_text(uint8_t text[2][5])
{
	memcpy(text[0], (const void *)entries[0].ip, 5);
	memcpy(text[1], (const void *)entries[1].ip, 5);
}

static bool is_named(const struct ftrace_ops *ops)
{
	const char *message = shunt_last_error();
	char address[32];

	(void)snprintf(address, sizeof(address), "ops %p", (const void *)ops);
	if (strstr(message, "function f") && strstr(message, address) &&
	    (strstr(message, "pwrite") || strstr(message, "mremap") ||
	     strstr(message, "membarrier")))
		return true;
	printf("# message: %s\n", message);
	return false;
}

struct step {
	int (*run)(void), (*undo)(void);
	unsigned long before, behind; /* calls that A see */
};

static int register_a(void)
{
	return register_ftrace_function(&a);
}

static int unregister_a(void)
{
	return unregister_ftrace_function(&a);
}

static int narrow_a(void)
{
	return ftrace_set_filter(&a, "f1", 0, 1);
}

static int widen_a(void)
{
	return ftrace_set_filter(&a, NULL, 0, 1);
}

/* The step with the call number @n failing, or without: *made fewer calls. */
static bool fail_one(const struct step *step, int n, bool *fewer)
{
	uint8_t text[2][5], now[2][5];
	int ret;

	read_text(text);
	left = n;
	ret = step->run();
	*fewer = left >= 0;
	left = -1;
	if (!ret) /* as it should, or another way has worked */
		return see(step->behind, 2) && !step->undo();
	read_text(now);
	return !*fewer && is_named(&a) && see(step->before, 2) && !memcmp(text, now, sizeof(text));
}

static bool fail_each(struct step step)
{
	bool good = true, fewer = false;
	int n = 0;

	for (; good && !fewer; n++)
		good = fail_one(&step, n, &fewer);
	return good && n > 2;
}

static bool fail_all(enum shunt_poke_policy policy)
{
	bool good = !shunt_set_poke(policy) && !add_entries() && !register_a() && !unregister_a() &&
		    !register_ftrace_function(&b) && see(0, 2);

	good = good && fail_each((struct step){register_a, unregister_a, 0, 2});
	good = good && !register_a();
	good = good && fail_each((struct step){narrow_a, widen_a, 2, 1});
	return good && fail_each((struct step){unregister_a, register_a, 2, 0});
}

static bool by_int3(void)
{
	return fail_all(SHUNT_POKE_INT3);
}

static bool by_remap(void)
{
	return fail_all(SHUNT_POKE_REMAP);
}

static bool as_it_is_set(void)
{
	return fail_all(SHUNT_POKE_AUTO);
}

#ifndef CONTROL
/* In turn; what can be done without any is done. */
static bool without_memory(void)
{
	bool good = !add_entries() && !register_ftrace_function(&b);

	for (int n = 0; n < 30 && good; n++) {
		int ret;

		allocs = n;
		ret = register_a();
		allocs = -1;
		good = ret ? ret == -ENOMEM && see(0, 2) : see(2, 2) && !unregister_a();
	}
	for (int n = 0; n < 30 && good; n++) {
		int ret;

		good = !register_a();
		allocs = n;
		ret = unregister_a();
		allocs = -1;
		good = good && (ret ? ret == -ENOMEM && see(2, 2) && !unregister_a() : see(0, 2));
	}
	return good;
}

#endif

#if !defined(CONTROL) || defined(NOT_AGAIN)
static FILE *mem;

static bool write_byte(uintptr_t at, uint8_t byte)
{
	if (!mem) {
		mem = fopen("/proc/self/mem", "r+");
		(void)setvbuf(mem, NULL, _IONBF, 0);
	}
	return !fseek(mem, (long)at, SEEK_SET) && fwrite(&byte, 1, 1, mem) == 1;
}

static unsigned messages;
static char last_message[600];

static void count_message(const char *message, void *arg)
{
	(void)arg;
	messages++;
	(void)snprintf(last_message, sizeof(last_message), "%s", message);
}

static bool is_told(unsigned n)
{
	if (messages == n && (!n || strstr(last_message, "somebody else has changed its entry")))
		return true;
	fprintf(stderr, "# %u messages, not %u: %s\n", messages, n, last_message);
	return false;
}

/* What can be asked for when the breakpoint is gone, and traces the function again. */
static int set_again(void)
{
	return ftrace_set_filter(&a, "f[01]", 0, 1);
}

static int add_again(void)
{
	return ftrace_set_filter(&a, "f0", 0, 0);
}

static int set_ip_again(void)
{
	return ftrace_set_filter_ip(&a, entries[0].ip, 0, 0);
}

static int register_again(void)
{
	int ret = unregister_a();

	return ret ? ret : register_a();
}

static int change_others(void)
{
	int ret = register_ftrace_function(&b);

	return ret ? ret : unregister_ftrace_function(&b);
}

/*
 * A debugger's breakpoint, or another tracer's jmp, when a filter is set: the function is not
 * traced, which is said once. When it has gone, @again traces it.
 */
static bool comes_back(int (*again)(void))
{
	bool good = !set_again() && !unregister_a();
	const uint8_t byte = *(const uint8_t *)entries[0].ip;

	messages = 0;
	shunt_set_log(count_message, NULL);
	good = good && write_byte(entries[0].ip, 0xcc) && is_told(0);
	calls_of_a = 0;
	good = good && !register_a() && entries[0].why && second(1) == 2 && calls_of_a == 1;
	good = good && is_told(1) && strstr(last_message, "f0") && !set_again() && is_told(1) &&
	       *(const uint8_t *)entries[0].ip == 0xcc;
	good = good && write_byte(entries[0].ip, byte) && !again() && !entries[0].why && see(2, 0);
	shunt_set_log(NULL, NULL);
	return good && is_told(1);
}

/* Text that cannot be written any more, behind the commit: that is said, and mended later. */
static bool left_on_int3(void)
{
	bool good =
		!shunt_set_poke(SHUNT_POKE_INT3) && !add_entries() && !register_ftrace_function(&b);

	messages = 0;
	shunt_set_log(count_message, NULL);
	is_broken = true;
	left = 4; /* int3, core sync, the tails, core sync */
	good = good && !register_a() && messages == 1 &&
	       strstr(last_message, "left on a breakpoint") && strstr(last_message, "function f");
	left = -1;
	good = good && *(const uint8_t *)entries[0].ip == 0xcc && see(2, 2) && !set_again();
	return good && *(const uint8_t *)entries[0].ip != 0xcc && messages == 1 && see(2, 2);
}

static bool foreign(void)
{
	int (*const ways[])(void) = {set_again, add_again, set_ip_again, register_again,
				     change_others};

	if (add_entries() || register_a() || unregister_a() || register_a())
		return false;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!comes_back(ways[i])) {
			fprintf(stderr, "# way %zu\n", i);
			return false;
		}
	return true;
}

#endif

#ifndef CONTROL
static bool bad_arguments(void)
{
	struct ftrace_ops none = {0};

	return !add_entries() && register_ftrace_function(NULL) == -EINVAL &&
	       register_ftrace_function(&none) == -EINVAL && unregister_a() == -EINVAL &&
	       !register_a() && register_a() == -EBUSY &&
	       ftrace_set_filter(&a, "nothing", 0, 1) == -EINVAL && see(2, 0) &&
	       ftrace_set_filter(&a, "", 0, 0) == -EINVAL &&
	       ftrace_set_filter(&a, "f1", -1, 0) == -EINVAL &&
	       ftrace_set_filter_ip(&a, 1, 0, 0) == -EINVAL &&
	       !ftrace_set_filter_ip(&a, (unsigned long)first, 0, 1) && see(1, 0) &&
	       !ftrace_set_filter_ip(&a, (unsigned long)second, 0, 0) && see(2, 0) &&
	       !ftrace_set_filter_ip(&a, (unsigned long)second, 1, 0) && see(1, 0) &&
	       !ftrace_set_filter(&a, "*:f[01]xyz", 7, 1) && see(2, 0) &&
	       !ftrace_set_notrace(&a, "te?t:f0", 0, 0) && see(1, 0) &&
	       !ftrace_set_notrace(&a, NULL, 0, 1) && see(2, 0) && !unregister_a() &&
	       unregister_a() == -EINVAL;
}
#endif

int main(void)
{
	shunt_set_log(NULL, NULL);
#ifndef NOT_AGAIN
	row_in_child(by_int3, "each call fails in turn, by int3");
	row_in_child(by_remap, "by remap");
	row_in_child(as_it_is_set, "as it is set");
#else
	(void)by_int3, (void)by_remap, (void)as_it_is_set;
#endif
#if !defined(CONTROL) || defined(NOT_AGAIN)
	row_in_child(foreign, "an entry with a breakpoint on it");
	row_in_child(left_on_int3, "entries that are left on an int3");
#endif
#ifndef CONTROL
	row_in_child(without_memory, "each allocation fails in turn");
	row_in_child(bad_arguments, "bad arguments, and filters");
#endif
	return end_rows();
}
