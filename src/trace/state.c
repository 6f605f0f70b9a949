/* SPDX-License-Identifier: MIT */
/* What the recorder's files share: the session, its path, and each thread's ring. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "linux/base/syscall.h"
#include "trace/file.h"
#include "trace/ring.h"
#include "trace/state.h"

struct trace_session_state trace_session = {
	.api_lock = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.file = {.fd = -1},
	.held = {.fd = -1},
};

bool trace_is_autostart;

struct trace_ring trace_no_ring;
struct trace_ring trace_not_here;
_Atomic uint64_t trace_lost_without_ring;
__thread struct trace_ring *trace_own_ring __attribute__((tls_model("initial-exec"))) =
	&trace_no_ring;

bool trace_is_file_or_nothing(const char *path)
{
	struct stat st = {0};
	long ret =
		shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, AT_SYMLINK_NOFOLLOW);

	return ret == -ENOENT || (!ret && S_ISREG(st.st_mode));
}

enum { IMAGES_MAX = 9999, NUMBERS_MAX = 14 /* ".4194304.9999" and the NUL */ };

/* Written since the command began: by an image of this process before exec(), or by another process
 * that had its number. What is older is an earlier session's. */
static bool is_of_session(const char *path)
{
	struct stat st = {0};

	return trace_session.since &&
	       !shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st,
			      AT_SYMLINK_NOFOLLOW) &&
	       S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec >=
		       trace_session.since;
}

static size_t put_number(char *to, uint32_t number)
{
	size_t n = 0, at = 0;
	char digits[12] = {0};

	to[at++] = '.';
	for (uint32_t left = number; left || !n; left /= 10)
		digits[n++] = (char)('0' + left % 10);
	while (n)
		to[at++] = digits[--n];
	to[at] = '\0';
	return at;
}

enum trace_how trace_path_of_process(char *path)
{
	size_t at = 0;

	/* The session is written to a descriptor, and a child of fork has none. */
	if (!trace_session.path_length) {
		path[0] = '\0';
		return TRACE_OPEN_OWN;
	}
	while (at < TRACE_PATH_MAX - NUMBERS_MAX && at < trace_session.path_length) {
		path[at] = trace_session.path[at];
		at++;
	}
	path[at] = '\0';
	/* Beside a device, a pipe, or what a link leads to, nothing is made. */
	if (!trace_is_file_or_nothing(path))
		return TRACE_OPEN_SHARED;
	at += put_number(path + at, trace_session.head.pid);
	for (uint32_t image = 2; image <= IMAGES_MAX && is_of_session(path); image++)
		(void)put_number(path + at, image);
	return TRACE_OPEN_OWN;
}

static uint64_t bit_of(int sig)
{
	return (uint64_t)1 << (sig - 1);
}

uint64_t trace_hold_handlers(void)
{
	static const int open[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, 32, 33};
	int sync = shunt_sync_signal_number();
	uint64_t held = ~(sync ? bit_of(sync) : 0), before = 0;

	for (unsigned i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		held &= ~bit_of(open[i]);
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, (long)&held, (long)&before,
			    sizeof(held));
	return before;
}

void trace_let_go_handlers(uint64_t before)
{
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before));
}
