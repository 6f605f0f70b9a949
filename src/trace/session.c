/* SPDX-License-Identifier: MIT */
/* The public interface: a session from its start to its end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "trace/auto_off.h"
#include "trace/catalogue.h"
#include "trace/child.h"
#include "trace/chunks.h"
#include "trace/clock.h"
#include "trace/consumer.h"
#include "trace/drain.h"
#include "trace/failed.h"
#include "trace/file.h"
#include "trace/finish.h"
#include "trace/gone.h"
#include "trace/hooks.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/signals.h"
#include "trace/snapshot.h"
#include "trace/state.h"
#include "trace/stream.h"
#include "trace/unmatched.h"

/* While there are hooks and the caller's ring is set aside. Guarded by api_lock. */
static bool is_held;
static uint64_t mask_before;

static void hold_handlers(void)
{
	mask_before = trace_hold_handlers();
	is_held = true;
}

static void let_go_handlers(void)
{
	if (is_held)
		trace_let_go_handlers(mask_before);
	is_held = false;
}

/* What this thread calls meanwhile is not recorded; *own is what to go back to. */
static int begin_api(const char *what, struct trace_ring **own)
{
	if (shunt_is_in_others_memory())
		return trace_failed(-EPERM, "%s: " SHUNT_IS_IN_OTHERS_MEMORY, what), -EPERM;
	trace_see_copy();
	(void)pthread_mutex_lock(&trace_session.api_lock);
	hold_handlers();
	*own = trace_own_ring; /* a handler may have been the first to need one */
	/* In a copy of the process this thread has another number. */
	if (*own != &trace_no_ring && *own != &trace_not_here)
		(*own)->tid = shunt_own_tid();
	trace_own_ring = &trace_not_here;
	return 0;
}

static int end_api(struct trace_ring *own, int result)
{
	trace_own_ring = own;
	let_go_handlers();
	(void)pthread_mutex_unlock(&trace_session.api_lock);
	return result;
}

/* -------------------------------------------------------------------------- options */

enum { RING_DEFAULT = 1 << 20, AUTO_OFF_DEFAULT_NS = 200 };
#define RING_MAX ((size_t)1 << 32)

static size_t power_of_2(size_t n)
{
	size_t p = TRACE_RING_MIN;

	while (p < n)
		p *= 2;
	return p;
}

/* A version of the structure that is longer than ours may want what we do not know. */
static int read_options(struct shunt_trace_options *to, const struct shunt_trace_options *from)
{
	size_t size = from ? (from->size ? from->size : sizeof(*from)) : 0;

	memset(to, 0, sizeof(*to));
	if (size > sizeof(*to)) {
		(void)trace_failed(-EINVAL,
				   "shunt_trace_start: options of %zu bytes, which is more "
				   "than this version knows",
				   size);
		return -EINVAL;
	}
	if (size)
		memcpy(to, from, size);
	if (!to->path)
		to->path = to->fd ? "" : "shunt.trace";
	if (!to->ring_size)
		to->ring_size = RING_DEFAULT;
	if (!to->auto_off_ns)
		to->auto_off_ns = AUTO_OFF_DEFAULT_NS;
	if (to->mode != SHUNT_TRACE_ALL && to->mode != SHUNT_TRACE_FLIGHT)
		return trace_failed(-EINVAL, "shunt_trace_start: no such mode: %d", (int)to->mode);
	if (to->ring_size > RING_MAX)
		return trace_failed(-EINVAL, "shunt_trace_start: rings of %zu bytes",
				    to->ring_size);
	if (to->entry_only && to->min_ns)
		return trace_failed(-EINVAL,
				    "shunt_trace_start: entries alone have no duration that "
				    "could be shorter than min_ns");
	if (to->mode == SHUNT_TRACE_ALL && (to->save_signal || to->save_on_crash))
		return trace_failed(-EINVAL,
				    "shunt_trace_start: signals save in SHUNT_TRACE_FLIGHT");
	if (to->fd < 0)
		return trace_failed(-EINVAL, "shunt_trace_start: descriptor %d", to->fd);
	if (strlen(to->path) + 16 > TRACE_PATH_MAX)
		return trace_failed(-EINVAL, "shunt_trace_start: the path is too long");
	to->ring_size = power_of_2(to->ring_size);
	return 0;
}

static int refuse_glob(int err, const char *what, const char *glob, size_t len)
{
	char why[300] = "";

	if (err == -EINVAL)
		trace_say_unmatched(glob, len, why, sizeof(why));
	return trace_failed(
		err, "shunt_trace_start: %s \"%.*s\": %s%s", what, (int)len, glob,
		err == -EINVAL ? "matches no function that can be traced" : strerror(-err), why);
}

static int add_globs(const char *globs, const char *what,
		     int (*set)(struct ftrace_ops *, const char *, int, int))
{
	static const char separators[] = " ,\t\n";
	const char *p = globs ? globs + strspn(globs, separators) : "";

	while (*p) {
		size_t len = strcspn(p, separators);
		int err;

		shunt_log_hold_here(true); /* one line, which names the option too */
		err = set(&trace_session.raw.ops, p, (int)len, 0);
		shunt_log_hold_here(false);
		if (err)
			return refuse_glob(err, what, p, len);
		p += len;
		p += strspn(p, separators);
	}
	return 0;
}

/* ---------------------------------------------------------------------------- begin */

/* The program may change its folder. */
static void set_path(const char *path)
{
	char *to = trace_session.path;
	size_t len = 0;

	if (path[0] && path[0] != '/' && getcwd(to, TRACE_PATH_MAX - strlen(path) - 16)) {
		len = strlen(to);
		to[len++] = '/';
	}
	memcpy(to + len, path, strlen(path) + 1);
	trace_follow_link(to);
	trace_session.path_length = strlen(to);
	trace_session.how = trace_is_autostart ? TRACE_OPEN_NEW : TRACE_OPEN_OVER;
}

static void read_command(void)
{
	struct trace_session_state *s = &trace_session;
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, s->command, sizeof(s->command));

	if (fd >= 0)
		(void)close(fd);
	s->command_size = n > 0 ? (size_t)n : 0;
	if (s->command_size)
		s->command[s->command_size - 1] = '\0';
	s->head.argc = 0;
	for (size_t i = 0; i < s->command_size; i++)
		s->head.argc += !s->command[i];
}

static void set_head(const struct shunt_trace_options *options)
{
	struct trace_session_state *s = &trace_session;
	enum trace_clock_source clock = trace_clock_choose();
	struct timespec now;

	s->first = trace_clock_read(clock);
	s->rate = trace_clock_rate(clock);
	/* The second one, so that also a file that is cut off has two. */
	s->second = trace_clock_read(clock);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	s->head = (struct trace_session){.pid = (uint32_t)getpid(),
					 .mode = options->mode,
					 .start_ticks = s->first.ticks,
					 .start_realtime_ns = trace_ns(&now),
					 .min_ns = options->min_ns,
					 .clock = clock,
					 .flags = (options->entry_only ? TRACE_ENTRY_ONLY : 0) |
						  TRACE_ADDRESSES};
	read_command();
}

/* In ticks; what they have no room for is as good as for ever. */
static uint64_t in_ticks(uint64_t ns, uint64_t rate)
{
	trace_wide ticks = ((trace_wide)ns * rate) / 1000000000u;

	return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

static int reset_all(const struct shunt_trace_options *options)
{
	struct trace_session_state *s = &trace_session;

	set_head(options);
	set_path(options->path);
	memset(&s->totals, 0, sizeof(s->totals));
	s->totals.no_return_before = shunt_returns_missed();
	atomic_store(&trace_lost_without_ring, 0);
	trace_catalogue_clear();
	s->cursor = (struct trace_cursor){0};
	trace_shape.bytes = options->ring_size;
	trace_shape.start = s->head.start_ticks;
	trace_shape.is_flight = options->mode == SHUNT_TRACE_FLIGHT;
	trace_shape.min = in_ticks(options->min_ns, s->rate);
	return trace_rings_reset();
}

static int prepare(const struct shunt_trace_options *options)
{
	int err;

	trace_child_prepare();
	trace_rings_hold(); /* a handler may still be saving the last session */
	err = reset_all(options);
	trace_rings_let_go();
	return err ? trace_failed(err, "shunt_trace_start: memory for the rings: %s",
				  strerror(-err))
		   : 0;
}

static int open_file(const struct shunt_trace_options *options)
{
	struct trace_session_state *s = &trace_session;
	int err;

	s->file.fd = -1;
	trace_file_forget(&s->file);
	s->is_finished = s->has_told_failure = false;
	(void)trace_save_take_error(); /* the last session's */
	if (options->mode == SHUNT_TRACE_FLIGHT && options->fd) {
		err = trace_file_hold(&s->held, options->fd);
		return err ? trace_failed(err, "shunt_trace_start: descriptor %d: %s: %s",
					  options->fd, s->held.failed_call, strerror(-err))
			   : 0;
	}
	if (options->mode == SHUNT_TRACE_FLIGHT || trace_is_autostart)
		return 0;
	err = options->fd ? trace_file_adopt(&s->file, options->fd)
			  : trace_file_open(&s->file, s->path, 0);
	if (!err && options->fd)
		s->file.again = s->path;
	return err ? trace_failed(err, "shunt_trace_start: %s: %s: %s", s->path,
				  s->file.failed_call, strerror(-err))
		   : 0;
}

/* A file that no session came to be written to. */
static void remove_file(void)
{
	struct trace_session_state *s = &trace_session;
	struct stat st;

	if (s->file.fd >= 0 && s->file.path[0] && !fstat(s->file.fd, &st) && S_ISREG(st.st_mode))
		(void)unlink(s->path);
	(void)trace_file_close(&s->file);
	(void)trace_file_close(&s->held);
}

/* Lock held. */
static int begin_tracing(void)
{
	struct trace_session_state *s = &trace_session;
	int err = shunt_raw_register(&s->raw);

	if (err)
		return err; /* with its message */
	err = trace_catalogue_update(0, &s->totals.functions);
	if (err) {
		(void)shunt_raw_unregister(&s->raw);
		return trace_failed(err, "shunt_trace_start: the list of functions: %s",
				    strerror(-err));
	}
	if (s->file.fd >= 0)
		trace_stream_begin();
	atomic_store(&s->is_running, true);
	shunt_raw_on_unload(trace_note_unload);
	s->has_been = true;
	return 0;
}

/*
 * The consumer comes last: a thread that blocks all signals is one more that the engine has to see
 * outside of the entries that it prepares.
 */
static int begin_consumer(void)
{
	struct trace_session_state *s = &trace_session;
	int err = trace_consumer_start();

	memcpy(&s->mask, &mask_before, sizeof(mask_before)); /* as it is without ours */
	if (!err)
		return 0;
	(void)shunt_raw_unregister(&s->raw);
	atomic_store(&s->is_running, false);
	s->has_been = false;
	return trace_failed(err, "shunt_trace_start: pthread_create: %s", strerror(-err));
}

static int begin_all(const struct shunt_trace_options *options)
{
	struct trace_session_state *s = &trace_session;
	int err = trace_signals_start(options);

	if (err)
		return trace_failed(err, "shunt_trace_start: sigaction: %s", strerror(-err));
	(void)pthread_mutex_lock(&s->lock);
	hold_handlers();
	err = begin_tracing();
	(void)pthread_mutex_unlock(&s->lock);
	if (!err)
		err = begin_consumer();
	if (err)
		trace_signals_stop();
	return err;
}

static int begin(const struct shunt_trace_options *options)
{
	int err = prepare(options);

	if (err)
		return err;
	err = open_file(options);
	if (!err) {
		trace_auto_off_begin(options->auto_off_ns);
		err = begin_all(options);
	}
	if (err)
		remove_file(); /* also one that is open, and took not even its header */
	return err;
}

static int start(const struct shunt_trace_options *from)
{
	struct trace_session_state *s = &trace_session;
	struct shunt_trace_options options;
	const struct trace_hooks *hooks;
	int err = read_options(&options, from);

	if (err)
		return err;
	if (atomic_load(&s->is_running))
		return trace_failed(-EBUSY, "shunt_trace_start: there is a session already");
	let_go_handlers(); /* nothing is traced until begin_tracing() */
	ftrace_free_filter(&s->raw.ops);
	hooks = trace_hooks_for(trace_clock_choose(), options.min_ns != 0);
	s->raw = (struct shunt_raw_ops){.entry = hooks->entry,
					.ret = options.entry_only ? NULL : hooks->ret,
					.is_sparing = hooks->is_sparing};
	err = add_globs(options.filter, "filter", ftrace_set_filter);
	if (!err)
		err = add_globs(options.notrace, "notrace", ftrace_set_notrace);
	return err ? err : begin(&options);
}

int shunt_trace_start(const struct shunt_trace_options *options)
{
	struct trace_ring *own;
	int err = begin_api("shunt_trace_start", &own);

	return err ? err : end_api(own, start(options));
}

void trace_look_again(void)
{
	struct trace_ring *own;

	if (begin_api("shunt_trace", &own))
		return;
	(void)pthread_mutex_lock(&trace_session.lock);
	trace_take_in_modules();
	(void)pthread_mutex_unlock(&trace_session.lock);
	(void)end_api(own, 0);
}

/* What is in the rings still; lock held, no hook begins any more. */
static void finish_file(void)
{
	struct trace_session_state *s = &trace_session;

	trace_take_in_modules();
	trace_drain(true);
	if (!s->is_finished)
		trace_stream_end();
	trace_rings_give_back();
}

static int stop(void)
{
	struct trace_session_state *s = &trace_session;
	int err;

	if (!atomic_load(&s->is_running))
		return trace_failed(-EINVAL, "shunt_trace_stop: there is no session");
	err = shunt_raw_unregister(&s->raw);
	if (err) {
		trace_finish(true); /* what has been recorded is written all the same */
		return err;
	}
	let_go_handlers(); /* no hook begins any more */
	atomic_store(&s->is_running, false);
	trace_consumer_stop();
	trace_signals_stop();
	(void)pthread_mutex_lock(&s->lock);
	s->totals.no_return = shunt_returns_missed();
	(trace_shape.is_flight ? trace_tell_stopped : finish_file)();
	err = s->file.error;
	if (trace_shape.is_flight && !trace_is_autostart) /* which has told it */
		err = trace_save_take_error();
	trace_rings_hold();
	(void)trace_file_close(&s->held);
	trace_rings_let_go();
	(void)pthread_mutex_unlock(&s->lock);
	return err ? trace_failed(err, "trace %s: %s: %s", s->path[0] ? s->path : "to a descriptor",
				  trace_shape.is_flight ? "the last save" : s->file.failed_call,
				  strerror(-err))
		   : 0;
}

int shunt_trace_stop(void)
{
	struct trace_ring *own;
	int err = begin_api("shunt_trace_stop", &own);

	return err ? err : end_api(own, stop());
}

int shunt_trace_save(const char *path)
{
	struct trace_ring *own;
	int err = begin_api("shunt_trace_save", &own);

	if (err)
		return err;
	if (!path)
		return end_api(own, trace_failed(-EINVAL, "shunt_trace_save: no path"));
	return end_api(own, trace_save_to(path, -1));
}

int shunt_trace_save_fd(int fd)
{
	struct trace_ring *own;
	int err = begin_api("shunt_trace_save_fd", &own);

	return err ? err : end_api(own, trace_save_to(NULL, fd));
}

void shunt_trace_get_stats(struct shunt_trace_stats *stats)
{
	struct trace_session_state *s = &trace_session;
	uint64_t events = 0, lost = 0;

	trace_see_copy();
	(void)pthread_mutex_lock(&s->lock);
	trace_count_rings(&events, &lost);
	*stats = (struct shunt_trace_stats){
		.events = events + s->totals.events,
		.lost = lost + s->totals.lost + atomic_load(&trace_lost_without_ring),
		.no_return = trace_without_return(),
		.threads = atomic_load(&trace_threads),
		.functions = s->totals.functions,
		.switched_off = s->totals.switched_off,
	};
	(void)pthread_mutex_unlock(&s->lock);
}
