/* SPDX-License-Identifier: MIT */
/*
 * What is mapped in the other process while one of its threads is held: a stack, and before that a
 * page to which all leads back that it runs, with a signal's frame in it as the kernel would have
 * made it where the thread was interrupted. Should this program be killed meanwhile, the kernel
 * lets the thread go on where it is; it finishes what it was called for, comes to that page, and
 * rt_sigreturn() gives it all its registers and its mask back, before the system call in which it
 * had slept: that one is made anew.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tracee.h"
#include "tracee_frame.h"

enum {
	FRAME_AT = 256,  /* of the page: struct ucontext, as the kernel has it */
	XSTATE_AT = 576, /* behind it, a multiple of 64 */
	PAGE_BYTES = 4096,
	ERRNO_CODE = 16, /* bytes at TRACEE_RETURNED */
	CALL_MS = 10000
};

static void make_code(const struct tracee *t, unsigned char *page)
{
	static const unsigned char returned[] = {
		0x48, 0x89,
		0xc7,       /* mov %rax,%rdi: the result, for this program */
		0x31, 0xf6, /* xor %esi,%esi */
		0xb8, SYS_munmap,
		0,    0,
		0, /* a system call that does nothing, and that a filter
		    * must let through because the end needs it */
		0x0f, 0x05,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90,
		0x90, 0x90, /* ERRNO_CODE bytes: make_errno_code() */
		0x48, 0xbc,
		0,    0,
		0,    0,
		0,    0,
		0,    0, /* mov $frame,%rsp */
		0xb8, SYS_rt_sigreturn,
		0,    0,
		0,    0x0f,
		0x05,
	};
	static const unsigned char call[] = {0x0f, 0x05, 0xeb, 0};
	uint64_t frame = t->page + FRAME_AT;

	memset(page, 0xcc, FRAME_AT);
	memcpy(page, returned, sizeof(returned));
	memcpy(page + TRACEE_RETURNED + ERRNO_CODE + 2, &frame, sizeof(frame));
	memcpy(page + TRACEE_SYSCALL, call, sizeof(call));
	page[TRACEE_SYSCALL + 3] = (unsigned char)(TRACEE_RETURNED - (TRACEE_SYSCALL + 4));
}

static int map(struct tracee *t, size_t size, int protection, uint64_t *at)
{
	const uint64_t arguments[6] = {
		0, size, (uint64_t)protection, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0};
	int64_t result = 0;
	int err = tracee_syscall(t, SYS_mmap, arguments, &result);

	if (err || (result < 0 && result > -4096)) {
		if (!err)
			(void)snprintf(t->why, sizeof(t->why), "mmap() in it: %s",
				       strerror((int)-result));
		return err ? err : (int)result;
	}
	*at = (uint64_t)result;
	return 0;
}

/* Where text cannot be mapped there is no such page, and the danger is as long as the call. */
static int map_page(struct tracee *t)
{
	static unsigned char page[XSTATE_AT + TRACEE_XSTATE + PAGE_BYTES];
	uint64_t at = 0;
	size_t size;
	int err;

#ifdef INJECT_NO_PAGE /* the tests' control */
	return 0;
#endif
	if (!tracee_has_frame(t))
		return 0;
	size = (XSTATE_AT + t->xstate_size + 4 + PAGE_BYTES - 1) & -(size_t)PAGE_BYTES;
	err = map(t, size, PROT_READ | PROT_EXEC, &at);
	if (err == -EACCES || err == -EPERM)
		return 0;
	if (err)
		return err;
	t->page = at;
	t->page_size = size;
	make_code(t, page);
	tracee_make_frame(t, page + FRAME_AT, at + XSTATE_AT);
	(void)tracee_make_xstate(t, page + XSTATE_AT);
	err = remote_write(t->space, at, page, size);
	if (err) {
		(void)snprintf(t->why, sizeof(t->why), "its memory: %s", strerror(-err));
		t->page = 0; /* and stays mapped */
	}
	return err;
}

int tracee_map(struct tracee *t)
{
	int err = map_page(t);

	return err ? err : map(t, TRACEE_STACK, PROT_READ | PROT_WRITE, &t->stack);
}

/* `mov $at,%rcx` and `movl $value,(%rcx)`. */
static void make_errno_code(const struct tracee *t, unsigned char code[ERRNO_CODE])
{
	static const unsigned char form[ERRNO_CODE] = {0x48, 0xb9, 0, 0, 0,    0,
						       0,    0,    0, 0, 0xc7, 0x01};

	memcpy(code, form, sizeof(form));
	memcpy(code + 2, &t->errno_at, sizeof(t->errno_at));
	memcpy(code + 12, &t->errno_value, sizeof(t->errno_value));
}

int tracee_keep_errno(struct tracee *t, uint64_t location)
{
	static const uint64_t none[TRACEE_ARGUMENTS];
	unsigned char code[ERRNO_CODE];
	uint64_t at = 0;
	int err;

#ifdef INJECT_LOSES_ERRNO /* the tests' control */
	if (location)
		return 0;
#endif
	err = tracee_call(t, location, none, CALL_MS, &at);
	if (err)
		return err;
	err = remote_read(t->space, at, &t->errno_value, sizeof(t->errno_value));
	if (!err) {
		t->errno_at = at;
		make_errno_code(t, code);
	}
	if (!err && t->page)
		err = remote_write(t->space, t->page + TRACEE_RETURNED, code, sizeof(code));
	if (err)
		(void)snprintf(t->why, sizeof(t->why), "its errno: %s", strerror(-err));
	return err;
}

int tracee_unmap(struct tracee *t)
{
	const uint64_t stack[6] = {t->stack, TRACEE_STACK}, page[6] = {t->page, t->page_size};
	bool has_page = t->page != 0;
	int64_t result;
	int err;

	if (!t->is_seized || !t->is_saved)
		return 0;
	err = tracee_halt(t);
	if (!err && t->stack)
		err = tracee_syscall(t, SYS_munmap, stack, &result);
		/* System calls leave it alone, and no more is called. Behind the page nobody puts
		 * it back. */
#ifndef INJECT_LATE_ERRNO /* the tests' control */
	if (!err && t->errno_at)
		(void)remote_write(t->space, t->errno_at, &t->errno_value, sizeof(t->errno_value));
#endif
	t->page = 0;
	if (has_page && !err)
		err = tracee_syscall(t, SYS_munmap, page, &result);
	return err;
}
