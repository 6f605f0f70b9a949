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

#include "shunt.h"
#include "trace_words.h"

/* Signals as they were, for the command; and what comes instead. */
struct signals {
	sigset_t before;
	struct sigaction child_before;
	int fd;
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

static int open_signals(struct signals *s)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t set;

	forwarded(&set);
	(void)sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, &s->before) || sigaction(SIGCHLD, &dfl, &s->child_before))
		return -errno;
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->fd < 0 ? -errno : 0;
}

static void restore_signals(const struct signals *s)
{
	(void)sigaction(SIGCHLD, &s->child_before, NULL);
	(void)sigprocmask(SIG_SETMASK, &s->before, NULL);
}

/* What a terminal sends, its whole foreground has. */
static void pass_on_signals(int fd, pid_t to)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD && info.ssi_code <= 0)
			(void)kill(to, (int)info.ssi_signo);
}

/* ------------------------------------------------------------------------- the child */

static _Noreturn void become(char **command, const struct signals *s, int tell)
{
	char pid[32];
	int error;

	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	restore_signals(s);
	if (!setenv("SHUNT_TRACE_PID", pid, 1))
		(void)execvp(command[0], command);
	error = errno;
	(void)!write(tell, &error, sizeof(error));
	_exit(EXIT_FAILURE);
}

/* Its number; or -errno: it could not be run. */
static pid_t start(char **command, const struct signals *s)
{
	int ends[2], error = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		error = errno;
	if (!pid)
		become(command, s, ends[1]);
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

static int wait_for(pid_t pid, const struct signals *s, struct trace_words *words)
{
	struct pollfd fds[2] = {{.fd = s->fd, .events = POLLIN},
				{.fd = words->fd, .events = POLLIN}};
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		(void)poll(fds, 2, -1);
		pass_on_signals(s->fd, pid);
		if (words->fd >= 0)
			trace_words_read(words);
	}
	if (words->fd >= 0)
		trace_words_read(words);
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

static int run_and_wait(const struct trace_run *run, char **command, const struct signals *s,
			struct trace_words *words)
{
	bool is_whole;
	int status;

	words->pid = start(command, s);
	if (words->pid < 0) {
		tool_complain("trace: %s: %s", command[0], strerror(-words->pid));
		return words->pid == -ENOENT ? 127 : 126;
	}
	leave_streams();
	status = wait_for(words->pid, s, words);
	is_whole = trace_words_end(words, run, command, status);
	if (!is_whole && WIFEXITED(status) && !WEXITSTATUS(status))
		return EXIT_FAILURE;
	return die_as(status, s);
}

int trace_run(const struct trace_run *run, char **command)
{
	struct trace_words words = {.fd = -1};
	struct signals s = {.fd = -1};
	int status = open_signals(&s);

	if (status) {
		tool_complain("trace: signals: %s", strerror(-status));
		return EXIT_FAILURE;
	}
	trace_words_open(&words);
	status = run_and_wait(run, command, &s, &words);
	if (words.fd >= 0)
		(void)close(words.fd);
	(void)close(s.fd);
	return status;
}
