/* SPDX-License-Identifier: MIT */
/*
 * Somebody answers in the kernel's place that a write to /proc/self/mem has been made, all of it: a
 * supervisor of a filter (SECCOMP_RET_USER_NOTIF), as a file of that name would that is not the
 * kernel's. Each write of an update in turn, and all from one on; by each policy, beside a thread
 * and without; a call, a call that is switched off, a static branch, all of them in one batch, and
 * so many sites that they are written in runs. It works in another way, or is an error with a
 * message, and nothing has changed. The same where the answer is an error that may pass (EINTR,
 * ENOMEM): then no site is left changed or on a breakpoint either, and one EINTR is no failure.
 *
 * Controls: the answer is believed; then an update returns 0 and a call goes to the old function.
 * There is no other writer; then sites are left on a breakpoint, or changed.
 */
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/emulated.h"
#include "../common/idle_thread.h"
#include "linux/text/open_pages.h"
#include "linux/text/proc_mem.h"

#include "sites_of_each_kind.h"

/* -------------------------------------------------------------------- control */

int __real_shunt_proc_mem_check(struct shunt_probe probe);
int __wrap_shunt_proc_mem_check(struct shunt_probe probe);

static bool believes;

int __wrap_shunt_proc_mem_check(struct shunt_probe probe)
{
	return believes ? 0 : __real_shunt_proc_mem_check(probe);
}

int __real_shunt_pages_write(const struct shunt_write *w, size_t n, bool whole_words);
int __wrap_shunt_pages_write(const struct shunt_write *w, size_t n, bool whole_words);

static bool no_other;

int __wrap_shunt_pages_write(const struct shunt_write *w, size_t n, bool whole_words)
{
	return no_other ? -EPERM : __real_shunt_pages_write(w, n, whole_words);
}

/* ----------------------------------------------------------------- the answers */

static struct {
	int listener;
	int error;          /* 0: it has been made */
	int first, last;    /* which writes are answered, from 1 on */
	_Atomic int writes; /* that were made or answered */
} fake;

static bool open_listener(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return false;
	fake.listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				     SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	return fake.listener >= 0;
}

static void *answer(void *arg)
{
	for (;;) {
		struct seccomp_notif write = {0};
		struct seccomp_notif_resp made = {0};
		int n;

		if (ioctl(fake.listener, SECCOMP_IOCTL_NOTIF_RECV, &write))
			continue;
		n = atomic_fetch_add(&fake.writes, 1) + 1;
		made.id = write.id;
		if (n < fake.first || n > fake.last)
			made.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		else if (fake.error)
			made.error = -fake.error;
		else
			made.val = (int64_t)write.data.args[2];
		(void)ioctl(fake.listener, SECCOMP_IOCTL_NOTIF_SEND, &made);
	}
	return arg;
}

/* ----------------------------------------------------------------- the updates */

enum { GOOD, NOT_READY = 10, CHANGED, NO_MESSAGE, LEFT, FAILS };

static bool must_work;

static bool is_left; /* a message says that sites are */

static void look_for_left(const char *message, void *arg)
{
	(void)arg;
	is_left = is_left || strstr(message, "are left");
}

static struct values {
	int site, null, branch, many;
} now = {1, 0, 0, 100};

static bool are(struct values v)
{
	return site() == v.site && null_site() == v.null && branch() == v.branch &&
	       many_sites() == v.many;
}

/* Behind an update that is to lead to @then. */
static int check(int ret, struct values then)
{
	if (ret && !*shunt_last_error())
		return NO_MESSAGE;
	if (ret && must_work)
		return FAILS;
	if (!are(ret ? now : then))
		return CHANGED;
	now = ret ? now : then;
	return is_left ? LEFT : GOOD;
}

static int update_batch(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_batch_add(&batch, call, one) |
		  static_call_batch_add(&batch, null, set) |
		  static_branch_batch_disable(&batch, &key) |
		  static_call_batch_add(&batch, many, two);

	ret = ret ? ret : static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static int update_each(void)
{
	struct values v = now;
	int ret;

	v.site = 2;
	ret = check(static_call_update(call, two), v);
	v = now;
	v.branch = 1;
	ret = ret ? ret : check(static_branch_enable(&key), v);
	v = now;
	v.null = 1;
	ret = ret ? ret : check(static_call_update(null, set), v);
	v = now;
	v.null = 0;
	ret = ret ? ret : check(static_call_update(null, NULL), v);
	v = now;
	v.many = 200;
	ret = ret ? ret : check(static_call_update(many, two), v);
	v = now;
	v.many = 100;
	ret = ret ? ret : check(static_call_update(many, one), v);
	return ret ? ret : check(update_batch(), (struct values){1, 1, 0, 200});
}

static const struct situation {
	const char *name;
	enum shunt_poke_policy policy;
	bool thread;
} situations[] = {
	{"alone", SHUNT_POKE_AUTO, false},
	{"auto, a thread", SHUNT_POKE_AUTO, true},
	{"int3", SHUNT_POKE_INT3, false},
	{"int3, a thread", SHUNT_POKE_INT3, true},
	{"remap, a thread", SHUNT_POKE_REMAP, true},
	{"atomic, a thread", SHUNT_POKE_ATOMIC, true},
};

/* Its status; *writes: how many there were. */
static int update_under_answers(const struct situation *s, int *writes)
{
	pthread_t thread;
	int ret;

	if (shunt_set_poke(s->policy) || !open_listener() ||
	    pthread_create(&thread, NULL, answer, NULL) ||
	    (s->thread && pthread_create(&thread, NULL, idle, NULL)))
		return NOT_READY;
	ret = update_each();
	*writes = atomic_load(&fake.writes);
	return ret;
}

static int run(const struct situation *s, int first, int last, int *writes)
{
	int made[2], status;
	pid_t pid;

	*writes = 0;
	if (pipe(made))
		return NOT_READY;
	fake.first = first;
	fake.last = last;
	pid = fork();
	if (!pid) {
		int n = 0;

		status = update_under_answers(s, &n);
		_exit(write(made[1], &n, sizeof(n)) == sizeof(n) ? status : NOT_READY);
	}
	status = child_status(pid);
	if (read(made[0], writes, sizeof(*writes)) != sizeof(*writes))
		*writes = 0;
	(void)close(made[0]);
	(void)close(made[1]);
	return status;
}

#define FIRST (is_emulated() ? 6 : 24)
#define SOME  (is_emulated() ? 8 : 32)

/* How many of the runs in which each write is answered in turn, or all from it on, end as @wanted.
 */
static int count_runs(const struct situation *s, int wanted, int *runs)
{
	int writes, made, found = 0;

	*runs = 0;
	(void)run(s, 0, 0, &writes);
	/* Of very many, which int3 writes one by one, each of the first and then some. */
	for (int first = 1; first <= writes; first += first < FIRST ? 1 : writes / SOME + 1) {
		must_work = fake.error == EINTR;
		found += run(s, first, first, &made) == wanted;
		must_work = false;
		found += run(s, first, INT_MAX, &made) == wanted;
		*runs += 2;
	}
	return found;
}

/* Those that may pass; and do not. */
static void test_errors(const struct situation *s)
{
	static const int errors[] = {EINTR, ENOMEM};

	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		int runs, found;

		fake.error = errors[e];
		found = count_runs(s, GOOD, &runs);
		ok(found == runs, "%s, error %d: %d of %d runs", s->name, errors[e], found, runs);
		if (s->policy != SHUNT_POKE_INT3)
			continue; /* nothing of a site is written before all is */
		no_other = true;
		/* On a breakpoint, which does the right thing; or changed. */
		found = count_runs(s, CPU_HAS_TRAPS ? LEFT : CHANGED, &runs);
		no_other = false;
		ok(found, "control: %s, no other writer: %d of %d runs", s->name, found, runs);
	}
	fake.error = 0;
}

int main(void)
{
	int runs, writes, status = run(&situations[0], 0, 0, &writes);

	if (status == NOT_READY) {
		skip("all of it", "no filter with a supervisor");
		return tap_done();
	}
	shunt_set_log(look_for_left, NULL);
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		const struct situation *s = &situations[i];
		int found = count_runs(s, GOOD, &runs);

		ok(found == runs, "%s: %d of %d runs", s->name, found, runs);
		believes = true;
		found = count_runs(s, CHANGED, &runs);
		believes = false;
		ok(found, "control: %s: %d of %d runs", s->name, found, runs);
		if (s->policy == SHUNT_POKE_AUTO || (s->policy == SHUNT_POKE_INT3 && s->thread))
			test_errors(s);
	}
	return tap_done();
}
