/* SPDX-License-Identifier: MIT */
/*
 * The command is a child of this process, which passes on what signals it gets, and lives no
 * longer.
 */
#include "trace_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt.h"
#include "shunt.h"
#include "trace_follow.h"
#include "trace_top.h"
#include "trace_words.h"

/* The table of --top, and what it shows. */
struct view {
	bool is_on; /* there is one */
	struct top top;
	struct follow follow;
};

/* Signals as they were, for the command; and what comes instead. */
struct signals {
	sigset_t before;
	struct sigaction child_before;
	int fd;
	int ending; /* the same of those that end a wait for a reader: looked at, not read */
};

/* Those that somebody may send to this process and mean the command. */
static void forwarded(sigset_t *set)
{
	static const int some[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
				   SIGUSR2, SIGALRM, SIGCONT, SIGWINCH};

	(void)sigemptyset(set);
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		(void)sigaddset(set, some[i]);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		(void)sigaddset(set, sig);
}

static int open_signals(struct signals *s, bool has_top)
{
	static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t set;

	forwarded(&set);
	(void)sigaddset(&set, SIGCHLD);
	if (has_top)
		(void)sigaddset(&set, SIGTSTP);
	if (sigprocmask(SIG_BLOCK, &set, &s->before) || sigaction(SIGCHLD, &dfl, &s->child_before))
		return -errno;
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return -errno;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		(void)sigaddset(&set, ending[i]);
	s->ending = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->ending < 0 ? -errno : 0;
}

static void restore_signals(const struct signals *s)
{
	(void)sigaction(SIGCHLD, &s->child_before, NULL);
	(void)sigprocmask(SIG_SETMASK, &s->before, NULL);
}

/* What is to happen to the table; the signals are the command's as well. */
static void show_signal(struct view *v, int sig)
{
	if (sig == SIGTSTP)
		top_suspend(&v->top);
	else if (sig == SIGWINCH)
		(void)top_draw(&v->top, follow_lives(&v->follow), v->follow.lives.n, true);
	else if (sig != SIGCHLD && sig != SIGCONT)
		top_leave(&v->top);
}

/* What a terminal sends, its whole foreground has. */
static void pass_on_signals(int fd, pid_t to, struct view *v)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (v->is_on)
			show_signal(v, (int)info.ssi_signo);
		if (info.ssi_signo != SIGCHLD && info.ssi_code <= 0)
			(void)kill(to, (int)info.ssi_signo);
	}
}

/* ------------------------------------------------------------------------- the child */

/* While the terminal shows the table, the command writes to what is shown behind it. */
static void leave_terminal(const struct view *v)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (!v->is_on || !v->top.is_screen || null < 0)
		return;
	if (isatty(STDOUT_FILENO))
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
	if (isatty(STDIN_FILENO))
		(void)dup2(null, STDIN_FILENO);
}

static _Noreturn void become(char **command, const struct signals *s, int tell,
			     const struct view *v)
{
	char pid[32];
	int error;

	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	restore_signals(s);
	leave_terminal(v);
	if (!setenv("SHUNT_TRACE_PID", pid, 1))
		(void)execvp(command[0], command);
	error = errno;
	(void)!write(tell, &error, sizeof(error));
	_exit(EXIT_FAILURE);
}

/* Its number; or -errno: it could not be run. */
static pid_t start(char **command, const struct signals *s, const struct view *v)
{
	int ends[2], error = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		error = errno;
	if (!pid)
		become(command, s, ends[1], v);
	(void)close(ends[1]);
	if (pid > 0 && read(ends[0], &error, sizeof(error)) != (ssize_t)sizeof(error))
		error = 0;
	(void)close(ends[0]);
	if (error && pid > 0)
		(void)waitpid(pid, NULL, 0);
	return error ? -error : pid;
}

/* Whoever reads the command's output waits for the command, not for this process. */
static void leave_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	(void)close(null);
}

/* -------------------------------------------------------------------------- the wait */

static void show(struct view *v)
{
	follow_read(&v->follow);
	if (top_draw(&v->top, follow_lives(&v->follow), v->follow.lives.n, false))
		top_leave(&v->top);
	top_show_words(&v->top);
}

static void hear(struct trace_words *words, const struct trace_run *run)
{
	if (words->fd >= 0)
		trace_words_read(words);
	if (words->has_file)
		trace_place_settle(run->place);
}

static int wait_for(const struct trace_run *run, const struct signals *s, struct trace_words *words,
		    struct view *v)
{
	/* Keys first: see top_is_ended_by_key() */
	struct pollfd fds[3] = {{.fd = v->is_on ? v->top.keys : -1, .events = POLLIN},
				{.fd = s->fd, .events = POLLIN},
				{.fd = words->fd, .events = POLLIN}};
	pid_t pid = words->pid;
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		int n = poll(fds, 3, v->is_on ? TOP_READ_MS : -1);

		pass_on_signals(s->fd, pid, v);
		/* The table goes on q; the command goes on. */
		if (n > 0 && fds[0].revents && !fds[1].revents && top_is_ended_by_key(&v->top))
			top_leave(&v->top);
		hear(words, run);
		if (v->is_on)
			show(v);
		if (v->is_on && v->top.is_quiet)
			fds[0].fd = -1; /* its keys are the command's */
	}
	if (v->is_on) {
		top_wait(&v->top);
		follow_read(&v->follow);
		(void)top_draw(&v->top, follow_lives(&v->follow), v->follow.lives.n, true);
		top_wait(&v->top);
	}
	hear(words, run);
	return status;
}

static int die_as(int status, const struct signals *s)
{
	sigset_t one;

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	(void)fflush(stderr);
	/* The core is the command's. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)signal(WTERMSIG(status), SIG_DFL);
	(void)sigemptyset(&one);
	(void)sigaddset(&one, WTERMSIG(status));
	restore_signals(s);
	(void)raise(WTERMSIG(status));
	(void)sigprocmask(SIG_UNBLOCK, &one, NULL);
	return 128 + WTERMSIG(status);
}

static int open_view(struct view *v, const struct trace_run *run, const char *title)
{
	v->is_on = run->has_top;
	if (!v->is_on)
		return 0;
	follow_begin(&v->follow, run->file, run->keeps);
	return top_open(&v->top, STDERR_FILENO, title);
}

static void close_view(struct view *v)
{
	if (!v->is_on)
		return;
	top_close(&v->top);
	follow_end(&v->follow);
}

static int run_and_wait(const struct trace_run *run, char **command, const struct signals *s,
			struct trace_words *words)
{
	struct view v = {0};
	bool is_whole;
	int status;

	if (open_view(&v, run, command[0]))
		return EXIT_FAILURE;
	words->pid = start(command, s, &v);
	if (words->pid < 0) {
		close_view(&v);
		tool_complain("trace: %s: %s", command[0], strerror(-words->pid));
		return words->pid == -ENOENT ? 127 : 126;
	}
	leave_streams();
	status = wait_for(run, s, words, &v);
	close_view(&v);
	is_whole = trace_words_end(words, run, command, status);
	if (run->has_top && !run->keeps)
		follow_remove(run->file);
	if (!is_whole && WIFEXITED(status) && !WEXITSTATUS(status))
		return EXIT_FAILURE;
	return die_as(status, s);
}

int trace_run(const struct trace_run *run, char **command)
{
	struct trace_words words = {.fd = -1};
	struct signals s = {.fd = -1};
	int status = open_signals(&s, run->has_top);

	if (status) {
		tool_complain("trace: signals: %s", strerror(-status));
		return EXIT_FAILURE;
	}
	interrupt_use(s.ending);
	trace_words_open(&words);
	status = run_and_wait(run, command, &s, &words);
	interrupt_use(-1);
	if (words.fd >= 0)
		(void)close(words.fd);
	(void)close(s.fd);
	(void)close(s.ending);
	return status;
}
