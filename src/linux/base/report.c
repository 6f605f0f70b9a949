/* SPDX-License-Identifier: MIT */
/*
 * Messages: one line for each failure, with key, site, step and system call. Kept
 * for the thread that it happened to, and passed to the program or to standard
 * error.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/libc.h"
#include "linux/base/stderr.h"
#include "linux/base/syscall.h"

/* The core's error numbers are this system's. */
#include "core/error.h"
_Static_assert(SHUNT_EPERM == EPERM && SHUNT_EIO == EIO && SHUNT_ENOMEM == ENOMEM &&
		       SHUNT_EBUSY == EBUSY && SHUNT_EFAULT == EFAULT && SHUNT_EINVAL == EINVAL &&
		       SHUNT_ERANGE == ERANGE && SHUNT_EDEADLK == EDEADLK,
	       "core/error.h has Linux's numbers");

/* ------------------------------------------------------ a record for each thread */

/*
 * The last message of a thread, and of the system call that it failed in. Not in
 * thread-local storage, of which a program has little to spare for libraries that are
 * loaded late. Never freed, but reused when the thread is gone.
 */
struct record {
	_Atomic uint64_t owner; /* how often it was claimed, and by whose number; 0: not in use */
	char message[SHUNT_MESSAGE_MAX];
	char call[SHUNT_CALL_MAX];
};

#define RECORDS (4096 / sizeof(struct record))

static struct chunk {
	struct chunk *_Atomic next;
	struct record records[RECORDS];
} first;

static __thread struct record *own;

/* In the number of a child in this memory, beside its thread id; it is its process's, too. */
#define CHILD 0x40000000

static int32_t own_number(void)
{
	return shunt_own_tid() | (shunt_is_child_in_memory() ? CHILD : 0);
}

/* Whose number it was. A child does not see its parent's threads: they are there. */
static bool is_gone(int32_t number, int32_t asker)
{
	int32_t tid = number & ~CHILD;

	if (!(number & CHILD) && asker & CHILD)
		return false;
	return shunt_syscall(SYS_tgkill, number & CHILD ? tid : shunt_own_pid(), tid, 0, 0) ==
	       -ESRCH;
}

static int32_t number_in(uint64_t owner)
{
	return (int32_t)(uint32_t)owner;
}

/* Counted: @from may be a thread that has gone, and a new one of its number may be here first. */
static struct record *claim(struct record *record, uint64_t from, int32_t number)
{
	uint64_t to = ((from >> 32) + 1) << 32 | (uint32_t)number;

	if (!atomic_compare_exchange_strong(&record->owner, &from, to))
		return NULL;
	record->message[0] = '\0';
	return record;
}

/* A record that this thread has already (taken in a handler), or that nobody has any more. */
static struct record *find_record(int32_t number, bool of_others)
{
	for (struct chunk *c = &first; c; c = atomic_load(&c->next))
		for (size_t i = 0; i < RECORDS; i++) {
			uint64_t seen = atomic_load(&c->records[i].owner);
			int32_t of = number_in(seen);
			bool fits = of_others ? !of || is_gone(of, number) : of == number;
			struct record *r = fits ? claim(&c->records[i], seen, number) : NULL;

			if (r)
				return r;
		}
	return NULL;
}

static struct record *new_record(int32_t number)
{
	struct chunk *c = shunt_port_alloc(sizeof(*c)), *next;

	if (!c)
		return NULL;
	atomic_store(&c->records[0].owner, (uint32_t)number);
	next = atomic_load(&first.next);
	do
		atomic_store(&c->next, next);
	while (!atomic_compare_exchange_weak(&first.next, &next, c));
	return &c->records[0];
}

/* Of a child in this memory, whose thread-local storage is its parent's. NULL: it has none yet. */
static struct record *record_of_child(int32_t number)
{
	for (struct chunk *c = &first; c; c = atomic_load(&c->next))
		for (size_t i = 0; i < RECORDS; i++)
			if (number_in(atomic_load(&c->records[i].owner)) == number)
				return &c->records[i];
	return NULL;
}

/*
 * This thread's record; NULL where there is no memory. After fork() it has another number,
 * and somebody else may have taken the record that it had.
 */
static struct record *own_record(void)
{
	int32_t number = own_number();
	struct record *r = own;

	if (r && number_in(atomic_load(&r->owner)) == number)
		return r;
	r = number & CHILD ? record_of_child(number) : find_record(number, false);
	if (!r)
		r = find_record(number, true);
	if (!r)
		r = new_record(number);
	if (!(number & CHILD))
		own = r; /* else it is of a thread of the parent's, which goes on with it */
	return r;
}

char *shunt_call_buffer(void)
{
	struct record *r = own_record();

	return r ? r->call : NULL;
}

/* By itself: the compiler reads thread-local storage as early as it likes. */
static __attribute__((noinline)) const char *own_message(void)
{
	int32_t number = own_number();
	const struct record *r = number & CHILD ? record_of_child(number) : own;

	return r ? r->message : "";
}

const char *shunt_last_error(void)
{
	return shunt_libc_has_started() ? own_message() : "";
}

/* ---------------------------------------------------- the program's log function */

struct log {
	void (*fn)(const char *message, void *arg);
	void *arg;
	struct log *next; /* made before it */
};

static void to_stderr(const char *message, void *arg)
{
	(void)arg;
	shunt_write_stderr(message);
}

static const struct log stderr_log = {to_stderr, NULL, NULL};

/* NULL: not set by the program. */
static const struct log *_Atomic current;

/* A record is never freed, because a reader may hold it, but used again for the same function. */
static struct log *_Atomic logs;

static struct log *find_log(void (*fn)(const char *message, void *arg), void *arg)
{
	struct log *log = atomic_load_explicit(&logs, memory_order_acquire);

	while (log && (log->fn != fn || log->arg != arg))
		log = log->next;
	return log;
}

static struct log *new_log(void (*fn)(const char *message, void *arg), void *arg)
{
	struct log *log = malloc(sizeof(*log));

	if (!log)
		return NULL;
	*log = (struct log){fn, arg, atomic_load_explicit(&logs, memory_order_relaxed)};
	/* Pairs with the acquire load in find_log(). */
	while (!atomic_compare_exchange_weak_explicit(&logs, &log->next, log, memory_order_release,
						      memory_order_relaxed))
		;
	return log;
}

/*
 * The first messages that come before the program has set a function, which most programs do in
 * main(), behind the constructors of their modules: kept for that function, whatever became of them
 * at the time.
 */
#define MAX_KEPT 8

static struct kept {
	_Atomic bool is_whole;
	char text[SHUNT_MESSAGE_MAX];
} kept[MAX_KEPT];

static _Atomic unsigned nr_kept; /* MAX_KEPT or more: no further ones */

static void keep(const char *message)
{
	unsigned i = atomic_load_explicit(&nr_kept, memory_order_relaxed);

	if (i >= MAX_KEPT || (i = atomic_fetch_add(&nr_kept, 1)) >= MAX_KEPT)
		return;
	memcpy(kept[i].text, message, strnlen(message, sizeof(kept[i].text) - 1));
	/* Pairs with the acquire load in pass_kept(). */
	atomic_store_explicit(&kept[i].is_whole, true, memory_order_release);
}

static void pass(const struct log *log, const char *message)
{
	struct shunt_nesting before;

	if (!log->fn || !shunt_nesting_begin(&before))
		return;
	log->fn(message, log->arg);
	shunt_nesting_end(&before);
}

/* To the first function that is set. */
static void pass_kept(const struct log *log)
{
	static _Atomic bool done;
	unsigned n;

	if (atomic_exchange(&done, true))
		return;
	n = atomic_exchange(&nr_kept, MAX_KEPT);
	for (unsigned i = 0; i < n && i < MAX_KEPT; i++)
		if (atomic_load_explicit(&kept[i].is_whole, memory_order_acquire))
			pass(log, kept[i].text);
}

void shunt_set_log(void (*fn)(const char *message, void *arg), void *arg)
{
	struct log *log = find_log(fn, arg);

	if (!log)
		log = new_log(fn, arg);
	/* Pairs with the acquire load in pass_to_log(). */
	if (!log)
		return;
	atomic_store_explicit(&current, log, memory_order_release);
	pass_kept(log);
}

/*
 * SHUNT_LOG as it was when the library was loaded: getenv() is not for signal handlers. A
 * message may come even earlier.
 */
static const struct log *_Atomic at_start;

__attribute__((constructor(101))) static void read_environment(void)
{
	static const struct log none = {NULL, NULL, NULL};
	const char *value = getenv("SHUNT_LOG");

	atomic_store(&at_start, value && !strcmp(value, "0") ? &none : &stderr_log);
}

static _Atomic bool is_held;

void shunt_log_hold(bool hold)
{
	atomic_store(&is_held, hold);
}

static __thread int holds_here;

void shunt_log_hold_here(bool hold)
{
	holds_here += hold ? 1 : -1;
}

/* By itself, as own_message(). */
static __attribute__((noinline)) bool held_here(void)
{
	return holds_here > 0;
}

static void pass_to_log(const char *message)
{
	const struct log *log = atomic_load_explicit(&current, memory_order_acquire);

	if (shunt_libc_has_started() && held_here())
		return;
	if (!log) {
		keep(message);
		if (!atomic_load(&at_start))
			read_environment();
		log = atomic_load(&at_start);
	}
	if (!atomic_load(&is_held))
		pass(log, message);
}

/* Of each name, where all of a message is too long: what is at its end is what was wrong. */
#define LONGEST_NAME 100

static void tell(const char *format, va_list args)
{
	char text[SHUNT_MESSAGE_MAX] = "";
	struct shunt_line line = {text, text + sizeof(text), 0};
	struct record *r;
	int saved = errno;
	va_list again;

	va_copy(again, args);
	shunt_append_list(&line, format, args);
	if (shunt_line_is_full(&line)) {
		line = (struct shunt_line){text, text + sizeof(text), LONGEST_NAME};
		shunt_append_list(&line, format, again);
	}
	va_end(again);
	shunt_make_one_line(text);
	r = own_record();
	if (r)
		memcpy(r->message, text, (size_t)(line.at - text) + 1);
	shunt_failed_call = NULL; /* told */
	pass_to_log(text);
	errno = saved;
}

void shunt_message(const char *format, ...)
{
	va_list args;

	if (!shunt_libc_has_started()) {
		shunt_tell_too_early();
		return;
	}
	va_start(args, format);
	tell(format, args);
	va_end(args);
}

void shunt_note(const char *message)
{
	char text[SHUNT_MESSAGE_MAX];
	int saved = errno;

	shunt_format(text, sizeof(text), "%s", message);
	shunt_make_one_line(text);
	pass_to_log(text);
	errno = saved;
}

/* ------------------------------------------------------------------ reports */

static void add_bytes(struct shunt_line *t, const char *label, const uint8_t *bytes, size_t n)
{
	shunt_append(t, "%s", label);
	for (size_t i = 0; i < n; i++)
		shunt_append(t, " %02x", bytes[i]);
}

static void add_site(struct shunt_line *t, const void *site)
{
	struct link_map map = {0};
	struct dl_find_object found, still;
	char name[SHUNT_MESSAGE_MAX] = "";

	shunt_append(t, ", site %p", site);
	if (!_dl_find_object || _dl_find_object((void *)site, &found) || !found.dlfo_link_map)
		return;
	/* The update is over: another thread may be unloading the module. */
	if (!shunt_peek(&map, found.dlfo_link_map, sizeof(map)) ||
	    (map.l_name && !shunt_peek_string(name, sizeof(name), map.l_name)) ||
	    _dl_find_object((void *)site, &still) || still.dlfo_link_map != found.dlfo_link_map)
		return;
	shunt_append(t, " in %s+0x%zx", *name ? name : program_invocation_name,
		     (size_t)((uintptr_t)site - map.l_addr));
}

/*
 * Whether nothing was tried: what has failed is of the update that this one may have come in. (Of
 * tracing -EDEADLK is also what waiting for callbacks ends with.)
 */
static bool is_refusal(const struct shunt_report *report)
{
	return report->refused || (report->error == -EDEADLK && !report->ops);
}

static void put_together(struct shunt_line *t, const struct shunt_report *report, const char *call)
{
	if (report->ops && report->function)
		shunt_append(t, ", function %s", report->function);
	if (report->ops)
		shunt_append(t, ", ops %p", report->ops);
	else if (report->key)
		shunt_append(t, ", key %s", report->key);
	if (report->site)
		add_site(t, report->site);
	shunt_append(t, ": %s", report->what ? report->what : "failed");
	if (report->nbytes) {
		add_bytes(t, ": found", report->found, report->nbytes);
		add_bytes(t, ", expected", report->expected, report->nbytes);
	}
	if (call)
		shunt_append(t, ": %s", call);
	shunt_append(t, ": %s", shunt_error_text(report->error));
}

static void report_in_full(const struct shunt_report *report)
{
	char text[SHUNT_MESSAGE_MAX] = "";
	struct shunt_line t = {text, text + sizeof(text), 0};
	const char *call = is_refusal(report) ? NULL : shunt_failed_call;

	put_together(&t, report, call);
	if (shunt_line_is_full(&t)) {
		t = (struct shunt_line){text, text + sizeof(text), LONGEST_NAME};
		put_together(&t, report, call);
	}
	/* The first part's ", " or ": ". */
	shunt_message("%s", text + 2);
}

void shunt_port_report(const struct shunt_report *report)
{
	const char *earlier;

	if (!shunt_libc_has_started()) { /* and there may be no thread-local memory */
		shunt_tell_too_early();
		return;
	}
	earlier = shunt_failed_call;
	report_in_full(report);
	if (is_refusal(report)) /* in a handler: the update that it came in may still need it */
		shunt_failed_call = earlier;
}

int shunt_tell_failure(const char *what, int ret)
{
	const struct shunt_report report = {.error = ret, .what = what};

	if (ret)
		shunt_port_report(&report);
	return ret;
}
