/* SPDX-License-Identifier: MIT */
/*
 * A child of vfork(), which runs in its parent's memory and on its stack, is killed in the middle
 * of an update of its own: at each thing that the core asks of the port, before it and behind it,
 * by each policy; a call, a static branch, a batch of both, many sites, text_poke. A thread calls
 * all the while. Behind it each site does what its key says, the parent's updates work in the
 * thread that made the child and in others, one that waits for the lock meanwhile has it, and no
 * page stays writable.
 *
 * Controls: the kernel is not told of the lock, then the parent waits for ever; nothing is taken
 * back, then a site does not do what its key says.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../common/child.h"
#include "linux/text/robust.h"

#include "sites_of_each_kind.h"

DEFINE_STATIC_KEY_FALSE(many_key);

/* So many that they are flipped in blocks. */
KEEP static int many_branches(void)
{
	int sum = 0;

	TEN(TEN(if (static_branch_unlikely(&many_key)) sum += one();))
	return sum;
}

/* ----------------------------------------------------- where the child is killed */

static pid_t child; /* 0: it is not to be killed */
static int points, last_point;

static void point(void)
{
	if (child && getpid() == child && ++points == last_point)
		(void)kill(child, SIGKILL);
}

#define AT_BOTH_ENDS(result, name, params, args) \
	result __real_##name params;             \
	result __wrap_##name params;             \
	result __wrap_##name params              \
	{                                        \
		result ret;                      \
                                                 \
		point();                         \
		ret = __real_##name args;        \
		point();                         \
		return ret;                      \
	}

AT_BOTH_ENDS(int, shunt_port_core_sync, (void), ())
AT_BOTH_ENDS(int, shunt_port_poke_begin, (size_t n, bool flips, unsigned tried), (n, flips, tried))
AT_BOTH_ENDS(int, shunt_port_text_remap, (const struct shunt_write *w, size_t n, size_t stride),
	     (w, n, stride))
AT_BOTH_ENDS(int, shunt_port_text_check, (const struct shunt_write *w, size_t n, size_t stride),
	     (w, n, stride))

/* Each write by itself, so that it is killed between two of them. */
int __real_shunt_port_text_write(const struct shunt_write *w, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n)
{
	int ret = 0;

	if (!child || getpid() != child || n > 10)
		return __real_shunt_port_text_write(w, n);
	for (size_t i = 0; i < n && !ret; i++) {
		point();
		ret = __real_shunt_port_text_write(w + i, 1);
	}
	point();
	return ret;
}

void __real_shunt_port_poke_end(void);
void __wrap_shunt_port_poke_end(void);
void __wrap_shunt_port_poke_end(void)
{
	point();
	__real_shunt_port_poke_end();
	point();
}

/* -------------------------------------------------------------------- controls */

static bool is_untold, is_left;

void __real_shunt_robust_begin(struct shunt_robust *before, _Atomic uint32_t *word);
void __wrap_shunt_robust_begin(struct shunt_robust *before, _Atomic uint32_t *word);
void __wrap_shunt_robust_begin(struct shunt_robust *before, _Atomic uint32_t *word)
{
	if (!is_untold)
		__real_shunt_robust_begin(before, word);
}

int __real_shunt_sites_repair(void);
int __wrap_shunt_sites_repair(void);
int __wrap_shunt_sites_repair(void)
{
	return is_left ? 0 : __real_shunt_sites_repair();
}

/* ----------------------------------------------------------------- the updates */

static int update_call(void)
{
	return static_call_update(call, static_call_query(call) == one ? two : one);
}

static int update_null(void)
{
	return static_call_update(null, static_call_query(null) ? NULL : set);
}

static int update_branch(void)
{
	return static_key_count(&key) ? static_branch_disable(&key) : static_branch_enable(&key);
}

static int update_many(void)
{
	return static_call_update(many, static_call_query(many) == one ? two : one);
}

static int update_many_branches(void)
{
	return static_key_count(&many_key) ? static_branch_disable(&many_key)
					   : static_branch_enable(&many_key);
}

static int update_batch(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	bool on = static_key_count(&key);
	int ret = static_call_batch_add(&batch, call, static_call_query(call) == one ? two : one) |
		  static_call_batch_add(&batch, null, static_call_query(null) ? NULL : set) |
		  (on ? static_branch_batch_disable(&batch, &key)
		      : static_branch_batch_enable(&batch, &key));

	ret = ret ? ret : static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

/* jmp +1 or a nop, each of two bytes, over one more. */
__asm__(".pushsection .text\n"
	".balign 16\n"
	"poked_site:\n"
	"xor %eax, %eax\n"
	"poked: jmp 1f\n"
	"movb $1, %al\n"
	"1: ret\n"
	".popsection\n");
extern int poked_site(void);
extern uint8_t poked[];

static int poke_text(void)
{
	static const uint8_t jmp[] = {0xeb, 2}, nop[] = {0x66, 0x90};

	return text_poke_bp(poked, poked[0] == jmp[0] ? nop : jmp, 2);
}

static int (*const updates[])(void) = {update_call, update_null,          update_branch,
				       update_many, update_many_branches, update_batch,
				       poke_text};
#define UPDATES (sizeof(updates) / sizeof(updates[0]))

/* Whether each site does what its key says. */
static bool are_as_told(void)
{
	int each = static_call_query(many) == one ? 1 : 2, x = poked_site();

	return site() == (static_call_query(call) == one ? 1 : 2) &&
	       null_site() == (static_call_query(null) ? 1 : 0) &&
	       branch() == (static_key_count(&key) ? 1 : 0) &&
	       many_branches() == (static_key_count(&many_key) ? 100 : 0) &&
	       many_sites() == 100 * each && (x == 0 || x == 1);
}

enum { GOOD, NOT_READY = 10, LIES, FAILS, OTHERS_FAIL, TORN, WRITABLE, ENDLESS };

static _Atomic bool over, is_torn;

static void *keep_calling(void *arg)
{
	while (is_untold && !over) /* it would only take time from what waits for ever */
		(void)usleep(1000);
	while (!over) {
		int a = site(), b = null_site(), c = branch(), x = poked_site();

		if ((a != 1 && a != 2) || (b != 0 && b != 1) || (c != 0 && c != 1) ||
		    (x != 0 && x != 1))
			is_torn = true;
	}
	return arg;
}

/* In the child's parent, beside it and behind it: it may have to wait for the lock. */
static void *update_there(void *arg)
{
	int *ret = arg;

	*ret = update_call();
	return NULL;
}

static bool is_text_writable(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	bool found = !maps;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		found |= strstr(line, " rwx") != NULL;
	if (maps)
		(void)fclose(maps);
	return found;
}

static __attribute__((noinline)) pid_t update_in_child(int (*update)(void))
{
	pid_t pid = vfork();

	if (!pid) {
		child = getpid();
		_exit(update() ? FAILS : GOOD);
	}
	child = 0;
	return pid;
}

/* What the parent finds of a child that was killed. */
static int look_behind(int (*update)(void), bool by_thread)
{
	pthread_t thread;
	int ret = 0;

	if (by_thread && (pthread_create(&thread, NULL, update_there, &ret) ||
			  pthread_join(thread, NULL) || ret))
		return OTHERS_FAIL;
	for (int i = 0; i < 2; i++)
		if (update() || !are_as_told())
			return ret ? LIES : FAILS;
	if (is_torn)
		return TORN;
	return is_text_writable() ? WRITABLE : GOOD;
}

/* Killed at each point in turn, until there are no more; *kills: how often. */
static int kill_at_each(int (*update)(void), int *kills)
{
	for (last_point = 1; last_point < 2000; last_point++) {
		int ret, status;

		points = 0;
		status = child_status(update_in_child(update));
		if (status == GOOD)
			return are_as_told() ? GOOD : LIES;
		if (status != 1000 + SIGKILL)
			return status;
		++*kills;
		if (is_untold)
			(void)alarm(1); /* what follows waits for ever */
		ret = look_behind(update, last_point % 2);
		if (ret)
			return ret;
	}
	return ENDLESS;
}

static struct situation {
	const char *name;
	enum shunt_poke_policy policy;
} situations[] = {
	{"auto", SHUNT_POKE_AUTO},
	{"int3", SHUNT_POKE_INT3},
	{"remap", SHUNT_POKE_REMAP},
	{"atomic", SHUNT_POKE_ATOMIC},
};

static int run_here(const struct situation *s, int *kills)
{
	pthread_t thread;
	int ret = GOOD;

	(void)alarm(60);
	if (shunt_set_poke(s->policy) || pthread_create(&thread, NULL, keep_calling, NULL))
		return NOT_READY;
	for (size_t i = 0; i < UPDATES && !ret; i++)
		ret = kill_at_each(updates[i], kills);
	over = true;
	return pthread_join(thread, NULL) ? NOT_READY : ret;
}

static int run(const struct situation *s, int *kills)
{
	int ends[2], status;
	pid_t pid;

	*kills = 0;
	if (pipe(ends))
		return NOT_READY;
	pid = fork();
	if (!pid) {
		status = run_here(s, kills);
		_exit(write(ends[1], kills, sizeof(*kills)) == sizeof(*kills) ? status : NOT_READY);
	}
	status = child_status(pid);
	(void)close(ends[1]);
	if (read(ends[0], kills, sizeof(*kills)) != sizeof(*kills))
		*kills = 0;
	(void)close(ends[0]);
	return status;
}

int main(void)
{
	int kills, status;

	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		const struct situation *s = &situations[i];

		status = run(s, &kills);
		ok(status == GOOD && kills > 20, "%s: killed %d times: %d", s->name, kills, status);
		is_untold = true;
		status = run(s, &kills);
		is_untold = false;
		ok(status == 1000 + SIGALRM, "control: %s, the kernel is not told: %d", s->name,
		   status);
		is_left = true;
		status = run(s, &kills);
		is_left = false;
		ok(status != GOOD && status != NOT_READY, "control: %s, nothing is taken back: %d",
		   s->name, status);
	}
	return tap_done();
}
