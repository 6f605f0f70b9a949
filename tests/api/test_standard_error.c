/* SPDX-License-Identifier: MIT */
/*
 * Messages and standard error, which may be anything: a message neither kills the program
 * nor waits, and never goes into a file that has got the number 2 since the start. Each
 * situation is this program once more, with a descriptor 2 made for it.
 *
 * Control: the same with a plain write() in place of the library's (-DPLAIN_WRITE).
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "tap.h"

#ifdef PLAIN_WRITE
void shunt_write_stderr(const char *message);

void shunt_write_stderr(const char *message)
{
	dprintf(2, "shunt: %s\n", message);
}
#define CONTROL true
#else
#define CONTROL false
#endif

static int one(void)
{
	return 1;
}

DEFINE_STATIC_CALL(key, one);

/* ------------------------------------------------------- in the situation */

static void fail_once(void)
{
	if (__static_call_update(NULL, (void (*)(void))one) != -EINVAL ||
	    !strstr(shunt_last_error(), "no key"))
		_exit(10);
}

static bool is_pending(int sig)
{
	sigset_t set;

	return !sigpending(&set) && sigismember(&set, sig);
}

static void block(int sig)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, sig);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Another file takes the number 2. Returns whether it stays empty. */
static bool takes_over(void)
{
	int fd = fileno(tmpfile());

	if (fd != 2 && dup2(fd, 2) != 2)
		return false;
	fail_once();
	return lseek(2, 0, SEEK_END) == 0;
}

/*
 * No file may be longer than nothing. Only from here on: the runtime of a sanitizer writes
 * files of its own at the start.
 */
static void limit_files(void)
{
	struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_FSIZE, &none))
		_exit(14);
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static bool is_open_for_signals(void)
{
	sigset_t set;

	(void)sigprocmask(SIG_BLOCK, NULL, &set);
	return !sigismember(&set, SIGPIPE) && !sigismember(&set, SIGXFSZ) &&
	       !sigismember(&set, SIGTTOU);
}

/* Neither a descriptor nor a blocked signal, whatever comes of it: 50 messages, which all arrive.
 */
static bool leaves_nothing(int reader)
{
	int before = count_open(), now = 0;

	for (int i = 0; i < 50; i++) {
		int had = now;

		fail_once();
		if (count_open() != before || !is_open_for_signals() ||
		    ioctl(reader, FIONREAD, &now) || now <= had)
			return false;
	}
	return true;
}

#define READER 100

static int in_situation(const char *name)
{
	/* For somebody to read. The others end, as slowly as they may. */
	bool waits = CONTROL && (strstr(name, "full") || !strcmp(name, "terminal"));

	(void)(waits ? ualarm(200000, 0) : alarm(20));
	if (!strcmp(name, "dup2") || !strcmp(name, "closed"))
		return takes_over() ? 0 : 11;
	if (!strcmp(name, "pipe with room"))
		return leaves_nothing(READER) ? 0 : 17;
	if (!strcmp(name, "full pipe, no descriptors")) {
		struct rlimit all, few;

		(void)getrlimit(RLIMIT_NOFILE, &all);
		few = (struct rlimit){3, all.rlim_max};
		(void)setrlimit(RLIMIT_NOFILE, &few);
		fail_once();
		fail_once();
		return setrlimit(RLIMIT_NOFILE, &all); /* a leak checker wants some at the end */
	}
	if (!strcmp(name, "blocked")) {
		block(SIGPIPE);
		fail_once();
		if (is_pending(SIGPIPE))
			return 12;
		(void)raise(SIGPIPE);
		fail_once();
		return is_pending(SIGPIPE) ? 0 : 13;
	}
	if (!strcmp(name, "file limit"))
		limit_files();
	fail_once();
	fail_once();
	return 0;
}

/* ------------------------------------------------------------ made for it */

static void fill(int fd)
{
	char some[4096] = {0};

	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	while (write(fd, some, sizeof(some)) > 0 || write(fd, some, 1) > 0)
		;
	(void)fcntl(fd, F_SETFL, 0);
}

/* A terminal whose output is held, as by ^S. */
static int held_terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

	if (master < 0 || grantpt(master) || unlockpt(master))
		return -1;
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	return slave < 0 || tcflow(slave, TCOOFF) ? -1 : slave;
}

/*
 * This process leads a session with a terminal, which stops what writes to it in the background;
 * a child that is there goes on. (The parent must be in the session, or nothing is stopped.)
 */
static int background_terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave, status = -1;
	struct termios settings;
	pid_t pid;

	if (setsid() < 0 || master < 0 || grantpt(master) || unlockpt(master))
		return -2;
	slave = open(ptsname(master), O_RDWR);
	if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || tcgetattr(slave, &settings))
		return -2;
	settings.c_lflag |= TOSTOP;
	if (tcsetattr(slave, TCSANOW, &settings))
		return -2;
	pid = fork();
	if (!pid) {
		(void)setpgid(0, 0);
		return slave;
	}
	(void)waitpid(pid, &status, WUNTRACED);
	(void)kill(pid, SIGKILL);
	_exit(WIFSTOPPED(status) ? 15 : WIFEXITED(status) ? WEXITSTATUS(status) : 16);
}

/* The file that is to be standard error there; -1: closed; -2: not to be had. */
static int make_file(const char *name)
{
	int fds[2];

	if (!strcmp(name, "closed"))
		return -1;
	if (!strcmp(name, "dup2"))
		return open("/dev/null", O_WRONLY);
	if (!strcmp(name, "file limit"))
		return fileno(tmpfile());
	if (!strcmp(name, "terminal"))
		return held_terminal();
	if (!strcmp(name, "terminal of another job"))
		return background_terminal();
	if (!strncmp(name, "socket", 6) ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds))
		return -2;
	if (strstr(name, "full"))
		fill(fds[1]);
	if (strstr(name, "full") || strstr(name, "room"))
		(void)dup2(fds[0], READER); /* still open, and not read */
	(void)close(fds[0]);
	return fds[1];
}

static void start(const char *self, const char *name)
{
	int fd = make_file(name);

	if (fd == -2)
		_exit(20);
	if (fd == -1)
		(void)close(2);
	else if (dup2(fd, 2) == 2 && fd != 2)
		(void)close(fd);
	(void)execl(self, self, name, NULL);
	_exit(21);
}

/* --------------------------------------------------------------------- main */

/* The wait status of the program in the situation. */
static int outcome(const char *self, const char *name)
{
	pid_t pid = fork();
	int status = -1;

	if (!pid)
		start(self, name);
	(void)waitpid(pid, &status, 0);
	return status;
}

/* Where it is read it arrives. */
static void test_arrives(const char *self)
{
	char text[200] = "";
	int fds[2], status;
	pid_t pid;

	(void)!pipe(fds);
	pid = fork();
	if (!pid) {
		(void)dup2(fds[1], 2);
		(void)execl(self, self, "read", NULL);
		_exit(21);
	}
	(void)close(fds[1]);
	(void)waitpid(pid, &status, 0);
	ok(read(fds[0], text, sizeof(text) - 1) > 0 &&
		   !strncmp(text, "shunt: static_call_update: no key", 33) && strchr(text, '\n') &&
		   !status,
	   "a pipe that is read: a line of its own (%x): %.30s...", status, text);
	(void)close(fds[0]);
}

#define THREADS 8

static pthread_barrier_t all_have_failed;

static void *look_and_fail(void *arg)
{
	*(bool *)arg = !*shunt_last_error();
	fail_once();
	*(bool *)arg = *(bool *)arg && *shunt_last_error();
#ifdef SUITE_TSAN
	/*
	 * A thread takes what one has left that the kernel no longer knows. ThreadSanitizer sees
	 * an order between them only where that one has been joined: they wait for each other.
	 */
	(void)pthread_barrier_wait(&all_have_failed);
#endif
	return NULL;
}

/* Each thread has its own last error, and a new one has none, whoever had its number. */
static void test_last_error(void)
{
	const char *own;
	unsigned good = 0;

	(void)pthread_barrier_init(&all_have_failed, NULL, THREADS);
	fail_once();
	own = shunt_last_error();
	for (int i = 0; i < 50; i++) {
		pthread_t threads[THREADS];
		bool fine[THREADS] = {false};

		for (int t = 0; t < THREADS; t++)
			(void)pthread_create(&threads[t], NULL, look_and_fail, &fine[t]);
		for (int t = 0; t < THREADS; t++) {
			(void)pthread_join(threads[t], NULL);
			good += fine[t];
		}
	}
	ok(good == 400, "threads with a last error of their own: %u of 400", good);
	ok(own == shunt_last_error() && strstr(own, "no key"), "this thread's stays: %s", own);
}

static void count(const char *message, void *arg)
{
	(void)message;
	++*(int *)arg;
}

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* Bytes of malloc(); a sanitizer brings its own. */
static size_t in_use(void)
{
	if (__sanitizer_get_current_allocated_bytes)
		return __sanitizer_get_current_allocated_bytes();
	return mallinfo2().uordblks;
}

/* How much more memory is in use behind 1,000 changes of the log, to @n functions in turn. */
static size_t grown_by_logs(size_t n)
{
	static int counts[1000];
	size_t before = in_use(), after;

	for (size_t i = 0; i < 1000; i++) {
		shunt_set_log(count, &counts[i % n]);
		fail_once();
		if (counts[i % n] < 1)
			return SIZE_MAX;
	}
	after = in_use();
	shunt_set_log(NULL, NULL);
	return after - before;
}

static void test_set_log(void)
{
	size_t few = grown_by_logs(2), many = grown_by_logs(1000);

	ok(few < 1000, "1,000 changes between two logs: %zu bytes", few);
	ok(many > 10000 && many != SIZE_MAX, "control: between 1,000 logs: %zu bytes", many);
}

static const char *const situations[] = {"pipe that nobody reads",
					 "blocked",
					 "full pipe",
					 "full pipe, no descriptors",
					 "socket that nobody reads",
					 "socket that is full",
					 "dup2",
					 "file limit",
					 "closed",
					 "terminal",
					 "terminal of another job"};

int main(int argc, char **argv)
{
	/* Who starts the tests may ignore them. */
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	if (argc > 1)
		return in_situation(argv[1]);
	(void)close(2);
	(void)open("/dev/null", O_WRONLY);
	test_arrives(argv[0]);
	ok(outcome(argv[0], "pipe with room") == 0, "nothing is left behind a message");
	test_last_error();
	test_set_log();
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		int status = outcome(argv[0], situations[i]);

		if (CONTROL)
			ok(status != 0 && status >> 8 < 20, "control: %s: status %x", situations[i],
			   status);
		else
			ok(status == 0, "%s: status %x", situations[i], status);
	}
	return tap_done();
}
