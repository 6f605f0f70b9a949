/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder's file now: on a signal, or at the end of the process. No lock is taken, for
 * that may be anywhere; but one at a time has the rings for itself: whoever saves, or whoever takes
 * away memory or files that a saver would read.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/catalogue.h"
#include "trace/failed.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/snapshot.h"
#include "trace/state.h"

enum { NOBODY, SAVER, OTHER };
enum { TURNS = 2000, TURN_NS = 1000000 };

static _Atomic uint32_t holder;
static _Atomic bool is_wanted; /* a save, by whoever gives the rings back */
static _Atomic int last_error; /* of the last save that nobody called for; 0: it is whole */

static bool hold(uint32_t as, uint32_t *who)
{
	*who = NOBODY;
	return atomic_compare_exchange_strong(&holder, who, as);
}

static void wait_a_turn(void)
{
	static const struct timespec turn = {0, TURN_NS};

	(void)shunt_syscall(SYS_nanosleep, (long)&turn, 0, 0, 0);
}

/* Who comes while another one saves is content with that. */
static bool begin(void)
{
	uint32_t who;

	if (hold(SAVER, &who))
		return true;
	if (who == SAVER)
		return false;
	atomic_store(&is_wanted, true); /* pairs with trace_rings_let_go() */
	if (!hold(SAVER, &who))
		return false;
	atomic_store(&is_wanted, false);
	return true;
}

/* At the end: what another one saves is to be whole, and is not the last of it. */
static bool begin_last(void)
{
	uint32_t who;

	for (int i = 0; i < TURNS; i++) {
		if (hold(SAVER, &who))
			return true;
		wait_a_turn();
	}
	return false;
}

static int save(void)
{
	if (trace_is_autostart)
		return trace_save_by_environment();
	if (trace_session.held.fd >= 0)
		return trace_snapshot_held();
	return trace_snapshot(trace_session.path, -1);
}

static void with_rings(bool has_them, int (*write)(void))
{
	struct trace_ring *own = trace_own_ring;
	int saved = errno;

	if (!has_them)
		return;
	trace_own_ring = &trace_not_here;
	atomic_store(&last_error, write());
	trace_own_ring = own;
	errno = saved;
	atomic_store(&holder, NOBODY);
}

int trace_save_take_error(void)
{
	return atomic_exchange(&last_error, 0);
}

void trace_save_now(bool is_last)
{
	with_rings(is_last ? begin_last() : begin(), save);
}

void trace_save_and_hold(void)
{
	with_rings(begin_last(), trace_hold_by_environment);
}

bool trace_rings_try_hold(void)
{
	uint32_t who;

	return hold(OTHER, &who);
}

void trace_rings_hold(void)
{
	while (!trace_rings_try_hold())
		wait_a_turn();
}

void trace_rings_let_go(void)
{
	atomic_store(&holder, NOBODY);
	if (atomic_exchange(&is_wanted, false) && atomic_load(&trace_session.is_running))
		trace_save_now(false);
}

void trace_save_in_child(void)
{
	atomic_store(&holder, NOBODY);
	atomic_store(&is_wanted, false);
}

void trace_follow_link(char *path)
{
	char *to = NULL;
	struct stat link, file, found;

	if (!lstat(path, &link) && S_ISLNK(link.st_mode) && !stat(path, &file) &&
	    S_ISREG(file.st_mode))
		to = realpath(path, NULL);
	if (to && !stat(to, &found) && found.st_ino == file.st_ino && found.st_dev == file.st_dev &&
	    strlen(to) + 16 < TRACE_PATH_MAX)
		memcpy(path, to, strlen(to) + 1);
	free(to);
}

/* Saving there would cut off what the session has written. */
static bool is_own_file(const char *path, int fd)
{
	const struct trace_file *own = &trace_session.file;
	struct stat st;

	return own->fd >= 0 && !(path ? stat(path, &st) : fstat(fd, &st)) && S_ISREG(st.st_mode) &&
	       st.st_dev == own->device && st.st_ino == own->inode;
}

static int save_alone(const char *path, int fd)
{
	static char to[TRACE_PATH_MAX];
	sigset_t all, before;
	int err;

	if (path && strlen(path) < sizeof(to)) {
		memcpy(to, path, strlen(path) + 1);
		trace_follow_link(to);
		path = to;
	}
	(void)sigfillset(&all);
	/* It may take long: updates of other threads that are synchronised by it do not wait. */
	if (shunt_sync_signal_number())
		(void)sigdelset(&all, shunt_sync_signal_number());
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	trace_rings_hold();
	err = trace_snapshot(path, fd);
	if (!err)
		atomic_store(&last_error, 0);
	trace_rings_let_go();
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

void trace_take_in_modules(void)
{
	struct trace_session_state *s = &trace_session;

	if (!s->file.error && trace_catalogue_is_old())
		(void)trace_catalogue_update(trace_now(), &s->totals.functions);
}

/* Lock held. */
static int save_to(const char *path, int fd)
{
	const char *name = path ? path : "the descriptor";
	int err;

	if (is_own_file(path, fd))
		return trace_failed(-EBUSY, "shunt_trace_save: %s: the session writes to that file",
				    name);
	/* Rings of which the most is in the file. */
	if (!trace_shape.is_flight)
		return trace_failed(
			-EINVAL,
			"shunt_trace_save: %s; one in SHUNT_TRACE_FLIGHT (shunt trace --flight) "
			"keeps the last ones",
			atomic_load(&trace_session.is_running)
				? "the session keeps no calls to be saved: it writes them to its "
				  "file"
				: "no session runs, and the last one has kept no calls to be "
				  "saved");
	if (atomic_load(&trace_session.is_running))
		trace_take_in_modules();
	err = save_alone(path, fd);
	return err ? trace_failed(err, "shunt_trace_save: %s: %s", name, strerror(-err)) : 0;
}

int trace_save_to(const char *path, int fd)
{
	struct trace_session_state *s = &trace_session;
	int err;

	if (!s->has_been)
		return trace_failed(-EINVAL, "shunt_trace_save: there has been no session");
	(void)pthread_mutex_lock(&s->lock);
	err = save_to(path, fd);
	(void)pthread_mutex_unlock(&s->lock);
	return err;
}
