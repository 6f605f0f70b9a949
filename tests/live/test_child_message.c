/* SPDX-License-Identifier: MIT */
/*
 * A child of vfork() whose calls fail has its parent's memory, thread-local storage included, and
 * cannot see that the parent's threads are there. Its messages are its own, and its parent's
 * threads have theirs as before: the one that has made it, one that has had no message, and another
 * one. Many such children take no more memory than one. A child of fork() has what its parent had.
 *
 * Control: a child that is not taken for one; then the parent has the child's message.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../common/child.h"
#include "linux/base/base.h"

#include "../api/tap.h"

DEFINE_STATIC_KEY_FALSE(first_key);
DEFINE_STATIC_KEY_FALSE(second_key);

static bool is_control;

bool __real_shunt_is_child_in_memory(void);
bool __wrap_shunt_is_child_in_memory(void);
bool __wrap_shunt_is_child_in_memory(void)
{
	return !is_control && __real_shunt_is_child_in_memory();
}

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);

static _Atomic int allocations;
void *__wrap_shunt_port_alloc(size_t size)
{
	allocations++;
	return __real_shunt_port_alloc(size);
}

static bool says(const char *what)
{
	return strstr(shunt_last_error(), what) != NULL;
}

/* In a child of vfork(): a call that fails, and what it says of it. */
static bool child_fails(void)
{
	static volatile bool good;
	pid_t pid;

	good = false;
	pid = vfork();
	if (!pid) {
		good = !says("_key") && text_poke_bp(NULL, NULL, 5) && says("text_poke");
		_exit(0);
	}
	return child_status(pid) == 0 && good;
}

static bool keeps_message(void)
{
	return static_branch_dec(&first_key) && child_fails() && says("first_key");
}

static _Atomic int turn;

static void *another(void *good)
{
	bool failed = static_branch_dec(&second_key) != 0;

	turn = 1;
	while (turn != 2)
		usleep(100);
	*(bool *)good = failed && says("second_key");
	return NULL;
}

static void *without(void *good)
{
	*(bool *)good = child_fails() && says("") && !*shunt_last_error();
	return NULL;
}

static bool in_thread(void *(*fn)(void *), bool (*meanwhile)(void))
{
	bool good = false, also = true;
	pthread_t thread;

	if (pthread_create(&thread, NULL, fn, &good))
		return false;
	if (meanwhile) {
		while (turn != 1)
			usleep(100);
		also = meanwhile();
		turn = 2;
	}
	return !pthread_join(thread, NULL) && good && also;
}

static int child_of_fork(void)
{
	return !says("first_key");
}

static bool takes_no_more(void)
{
	int before;

	if (!child_fails())
		return false;
	before = allocations;
	for (int i = 0; i < 50; i++)
		if (!child_fails())
			return false;
	return allocations - before < 5;
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	is_control = true;
	ok(!keeps_message(), "control: a child that is not taken for one is seen");
	is_control = false;
	ok(in_thread(without, NULL), "the parent's thread has had no message, and has none");
	ok(in_thread(another, child_fails), "another thread has its message still");
	ok(keeps_message(), "the parent's thread has its message still");
	ok(takes_no_more(), "many children take no more memory than one");
	ok(keeps_message() && in_child(child_of_fork) == 0, "a child of fork() has the parent's");
	return tap_done();
}
