/* SPDX-License-Identifier: MIT */
/*
 * A child of fork() while another thread has the dynamic linker's lock of its list (in a callback
 * of dl_iterate_phdr()): what the recorder and the agent look at in the list is had there, too. A
 * session that goes on in the child ends; another one begins, saves, and ends; the agent lists
 * modules, and lets go of its text.
 *
 * *Control:* SHUNT_CONTROL: the child is taken for the process itself, and waits for the lock.
 */
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/inspect.h>
#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "agent/agent.h"
#include "linux/base/base.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))
enum { PATIENCE = 20, OF_CONTROL = 2 }; /* seconds */

static _Atomic bool is_held, may_go;
static char path[256];

static int hold(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	is_held = true;
	while (!may_go)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	return 1;
}

static void *in_callback(void *arg)
{
	(void)dl_iterate_phdr(hold, NULL);
	return arg;
}

long traced(long n);
TRACED long traced(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

static int start(enum shunt_trace_mode mode)
{
	return shunt_trace_start(&(struct shunt_trace_options){
		.path = path, .filter = "traced", .mode = mode, .ring_size = 4096});
}

static bool is_written(const char *file)
{
	struct stat st;
	bool is = !stat(file, &st) && st.st_size > 100;

	(void)unlink(file);
	return is;
}

static void call_often(void)
{
	for (int i = 0; i < 1000; i++) /* more than a ring has room for */
		(void)traced(i);
}

static int session_ends(void)
{
	char own[300];

	snprintf(own, sizeof(own), "%s.%d", path, (int)getpid());
	call_often();
	return shunt_trace_stop() || !is_written(own);
}

static int session_begins(void)
{
	call_often();
	if (shunt_trace_stop())
		return 1;
	snprintf(path + strlen(path), 32, ".%d", (int)getpid());
	if (start(SHUNT_TRACE_FLIGHT))
		return 2;
	call_often();
	return shunt_trace_save(path) || shunt_trace_stop() || !is_written(path) ? 3 : 0;
}

static int agent_lists(void)
{
	struct agent_reply reply = {.text = NULL};

	agent_list_modules(&reply);
	return reply.error || !reply.text || !strstr(reply.text, "forked_list") ||
	       !strstr(reply.text, "libc");
}

static int agent_sleeps(void)
{
	agent_drop_text();
	return 0;
}

static int agent_starts(void)
{
	return shunt_agent_start() || shunt_agent_stop();
}

/* 137: it hung. */
static int status_of(int (*fn)(void))
{
	const int patience = getenv("SHUNT_CONTROL") ? OF_CONTROL : PATIENCE;
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		if (getenv("SHUNT_CONTROL"))
			shunt_process_page->is_original = true;
		may_go = true;
		_exit(fn());
	}
	for (int i = 0; i < patience * 100 && !waitpid(pid, &status, WNOHANG); i++)
		nanosleep(&(struct timespec){0, 10000000}, NULL);
	if (status == -1) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
	static const struct {
		const char *name;
		int (*fn)(void);
	} rows[] = {
		{"the session ends", session_ends},
		{"another one begins", session_begins},
		{"the agent lists modules", agent_lists},
		{"the agent lets go of its text", agent_sleeps},
		{"an agent starts and stops", agent_starts},
	};
	char folder[] = "/tmp/shunt-forked-XXXXXX";
	pthread_t thread;

	if (!mkdtemp(folder))
		return EXIT_FAILURE;
	snprintf(path, sizeof(path), "%s/trace", folder);
	ok(!start(SHUNT_TRACE_ALL), "a session");
	if (pthread_create(&thread, NULL, in_callback, NULL))
		return EXIT_FAILURE;
	while (!is_held)
		sched_yield();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status = status_of(rows[i].fn);

		ok(!status, "%s (%d)", rows[i].name, status);
	}
	may_go = true;
	pthread_join(thread, NULL);
	call_often();
	ok(!shunt_trace_stop() && is_written(path), "and the parent's ends");
	(void)rmdir(folder);
	return tap_done();
}
