/* SPDX-License-Identifier: MIT */
/*
 * Updates as early as can be: in the resolver of an ifunc, which a static program runs before the
 * C library is set up, in .preinit_array, and in constructors before libshunt's own. Each works, or
 * fails and has changed nothing; and a later one works.
 *
 * Control (SHUNT_CONTROL=started): the C library is said to be set up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/branch_site.h"
#include "../common/one_two.h"
#include "linux/base/base.h"

DEFINE_STATIC_CALL(early, one);

KEEP static int call_it(void)
{
	return static_call(early)() + 0;
}

bool __real_shunt_libc_has_started(void);
bool __wrap_shunt_libc_has_started(void);

static bool is_control;

bool __wrap_shunt_libc_has_started(void)
{
	return is_control || __real_shunt_libc_has_started();
}

/* 0, and done; or an error, and nothing is. */
static bool is_true(int ret, bool is, bool was, bool wanted)
{
	return ret ? is == was && (ret == -EAGAIN) : is == wanted;
}

struct outcome {
	bool call, key, batch, counted, text, said;
	int ret;
};

static void update(struct outcome *o, bool to)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	bool was = call_it() == 2;
	int ret;

	o->ret = static_call_update(early, to ? two : one);
	o->call = is_true(o->ret, call_it() == 2, was, to);
	was = branch();
	ret = to ? static_branch_enable(&key) : static_branch_disable(&key);
	o->key = is_true(ret, branch(), was, to);
	was = branch();
	ret = static_branch_inc(&key);
	o->counted = is_true(ret, branch(), was, true);
	if (!ret && static_branch_dec(&key))
		o->counted = false;
	was = call_it() == 2;
	ret = static_call_batch_add(&batch, early, two);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	o->batch = is_true(ret, call_it() == 2, was, true);
	static_call_batch_destroy(&batch);
	o->said = !ret || shunt_last_error();
	ret = text_poke_bp(NULL, "\x90", 1, NULL);
	o->text = ret != 0;
}

static struct outcome in_resolver, in_preinit, in_constructor;

/* The name is in no string that a function of the C library would have to look for. */
static bool asks_for_control(void)
{
	extern char **environ;
	static const char wanted[] = "SHUNT_CONTROL=started";

	for (char **e = environ; e && *e; e++) {
		size_t i = 0;

		while (wanted[i] && (*e)[i] == wanted[i])
			i++;
		if (!wanted[i])
			return true;
	}
	return false;
}

typedef int func_t(void);

__attribute__((used)) static func_t *resolve(void)
{
	is_control = asks_for_control();
	update(&in_resolver, true);
	return two;
}

int chosen(void) __attribute__((ifunc("resolve")));

static void before_all(void)
{
	update(&in_preinit, true);
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = before_all;

__attribute__((constructor(101))) static void construct(void)
{
	update(&in_constructor, false);
}

static void judge(const struct outcome *o, const char *where)
{
	ok(o->call, "%s: a static call: %d", where, o->ret);
	ok(o->key && o->counted, "%s: a static key", where);
	ok(o->batch, "%s: a batch", where);
	ok(o->text && o->said, "%s: text_poke() and messages", where);
}

int main(void)
{
	struct outcome late = {0};

	ok(chosen() == 2, "the resolver's function is called");
	judge(&in_resolver, "in a resolver");
	judge(&in_preinit, "in .preinit_array");
	judge(&in_constructor, "in a constructor");
	update(&late, true);
	judge(&late, "in main()");
	ok(!late.ret && call_it() == 2, "and there it works");
	return tap_done();
}
