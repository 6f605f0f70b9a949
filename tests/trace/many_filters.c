/* SPDX-License-Identifier: MIT */
/*
 * Many rules of filters. A rule more does not copy those that there are (by the memory that is
 * asked for), and does not look at them again where the ops are registered: what these then trace
 * is what the same rules take that are given before. Rules of all kinds and resets by chance, also
 * such as fail for want of memory.
 *
 * Controls: the rules' memory has no room for more; the first filter is taken for one of many.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/ftrace_internal.h"
#include "counting.h"
#include "entries.h"
#include "made_module.h"
#include "tap.h"

/* --------------------------------------------------------------------- functions */

#define N 500

/* nop of 5; ret */
static const uint8_t code[] = {0x0f, 0x1f, 0x44, 0, 0, 0xc3};

static struct shunt_entry many[N];
static char many_names[N * 8];
static struct shunt_entries plugin = {
	.entries = many, .n = N, .module = "plugin.so", .names = many_names};

static int load(void)
{
	return load_made(&plugin, many, many_names, NULL, code, sizeof(code)) ? 0 : -1;
}

/* ------------------------------------------------------------------------ memory */

static size_t asked;    /* bytes */
static int allocs = -1; /* that go through before one fails */

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size)
{
	asked += size;
	if (allocs >= 0 && !allocs--)
		return NULL;
	return __real_shunt_port_alloc(size);
}

#ifdef NO_ROOM
int __real_shunt_rules_with(const struct shunt_rules *rules, const struct shunt_rule_added *added,
			    struct shunt_rules *out);
int __wrap_shunt_rules_with(const struct shunt_rules *rules, const struct shunt_rule_added *added,
			    struct shunt_rules *out);
int __wrap_shunt_rules_with(const struct shunt_rules *rules, const struct shunt_rule_added *added,
			    struct shunt_rules *out)
{
	if (rules->store)
		*(size_t *)(void *)rules->store = rules->used; /* its size */
	return __real_shunt_rules_with(rules, added, out);
}
#endif

#ifdef ONE_OF_MANY
int __real_shunt_rules_know(const struct shunt_rules *rules, bool exits,
			    const struct shunt_known *before, const struct shunt_rule_added *added,
			    struct shunt_known *known);
int __wrap_shunt_rules_know(const struct shunt_rules *rules, bool exits,
			    const struct shunt_known *before, const struct shunt_rule_added *added,
			    struct shunt_known *known);
int __wrap_shunt_rules_know(const struct shunt_rules *rules, bool exits,
			    const struct shunt_known *before, const struct shunt_rule_added *added,
			    struct shunt_known *known)
{
	struct shunt_known same = before ? *before : (struct shunt_known){0};

	same.has_filter = rules->has_filter;
	return __real_shunt_rules_know(rules, exits, before ? &same : NULL, added, known);
}
#endif

/* -------------------------------------------------------------------------- rows */

#ifndef ONE_OF_MANY
#define RULES 4000

/* Rules of 6 to 8 bytes: each copied for the next one, it would be 60 MB. */
static bool appended(void)
{
	char glob[16];
	int ret = load();

	asked = 0;
	for (int i = 0; i < RULES && !ret; i++) {
		(void)snprintf(glob, sizeof(glob), "g%d", i % N);
		ret = ftrace_set_filter(&ops, glob, 0, 0);
	}
	(void)dprintf(STDOUT_FILENO, "# %zu bytes for %d rules\n", asked, RULES);
	return !ret && asked < 64ul * RULES && !register_ftrace_function(&ops) &&
	       shunt_entry_nr_ops(&many[1]) == 1 && !unregister_ftrace_function(&ops);
}

#endif

#ifndef NO_ROOM
static struct ftrace_ops other = {.func = count, .flags = SHUNT_FTRACE_GENERAL_REGS};

static unsigned draw(unsigned below)
{
	static unsigned state = 1;

	state = state * 1103515245u + 12345u;
	return (state >> 16) % below;
}

struct step {
	unsigned kind, function, reset;
	char glob[16];
};

static struct step draw_step(void)
{
	static const char *const forms[] = {"g%u", "g%u*", "*%u", "g*%u?"};
	struct step s = {draw(4), draw(N), !draw(12), ""};

	(void)snprintf(s.glob, sizeof(s.glob), forms[draw(4)], s.function % 50);
	return s;
}

static int take_step(struct ftrace_ops *of, const struct step *s)
{
	if (s->kind == 0)
		return ftrace_set_filter(of, s->glob, 0, (int)s->reset);
	if (s->kind == 1)
		return ftrace_set_notrace(of, s->glob, 0, (int)s->reset);
	return ftrace_set_filter_ip(of, many[s->function].ip, s->kind == 3, (int)s->reset);
}

/* Whether both ops trace the same functions. */
static bool same(size_t *n)
{
	bool good = !register_ftrace_function(&other);

	*n = 0;
	for (size_t i = 0; i < N; i++) {
		good = good && shunt_entry_nr_ops(&many[i]) != 1;
		*n += shunt_entry_nr_ops(&many[i]) == 2;
	}
	return !unregister_ftrace_function(&other) && good;
}

static bool added_while_registered(void)
{
	size_t n = 0, sum = 0;
	bool good = !load() && !register_ftrace_function(&ops);

	for (int i = 0; i < 400 && good; i++) {
		struct step s = draw_step();

		good = take_step(&ops, &s) == take_step(&other, &s) && same(&n);
		sum += n;
	}
	(void)dprintf(STDOUT_FILENO, "# %zu functions traced on the average\n", sum / 400);
	return good && sum / 400 > N / 50 && sum / 400 < N;
}
#endif

#ifndef CONTROL
/* A rule that fails has changed nothing, whichever memory is not to be had; then it goes through.
 */
static bool without_memory(void)
{
	size_t n;
	int failures = 0;
	bool good = !load() && !register_ftrace_function(&ops);

	for (int i = 0; i < 40 && good; i++) {
		struct step s = draw_step();
		int ret = -ENOMEM;

		for (int fails = 0; fails < 20 && ret == -ENOMEM && good; fails++) {
			allocs = fails;
			ret = take_step(&ops, &s);
			allocs = -1;
			failures += ret == -ENOMEM;
			good = ret != -ENOMEM || same(&n);
		}
		good = good && take_step(&other, &s) == ret && same(&n);
	}
	(void)dprintf(STDOUT_FILENO, "# failed %d times\n", failures);
	return good && failures > 40;
}
#endif

int main(void)
{
#ifndef ONE_OF_MANY
	row_in_child(appended, "4,000 rules in some times their bytes");
#endif
#ifndef NO_ROOM
	row_in_child(added_while_registered, "added while it is registered, or before: the same");
#endif
#ifndef CONTROL
	row_in_child(without_memory, "a rule that fails has changed nothing");
#endif
	return end_rows();
}
