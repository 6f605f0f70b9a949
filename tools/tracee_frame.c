/* SPDX-License-Identifier: MIT */
/*
 * A signal's frame as the kernel would have made it where the thread was interrupted:
 * rt_sigreturn() with that gives the thread all its registers and its mask back, before the system
 * call in which it had slept, which is made anew.
 *
 * Before anything is mapped for it the thread makes system calls at a `syscall` of libc's which a
 * `ret` follows. Its stack is such a frame then, behind the address of libc's own restorer, so that
 * it goes back by itself should this program be killed. The frame is where a mapping of libc ends
 * within a page: behind the end of its segment nobody has anything.
 */
#include "tracee_frame.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum {
	MAGIC_AT = 464, /* of the xstate: struct _fpx_sw_bytes */
	PAGE_BYTES = 4096,
	PHDRS_MAX = 64,
	CODE = 64 << 10, /* bytes of text that are looked at at a time */
	CODE_MOST = 16   /* of one instruction sequence */
};

/* Not valid: the alternate stack stays what it is. (The tests' control has SS_DISABLE.) */
#ifndef INJECT_STACK_FLAGS
#define INJECT_STACK_FLAGS 0x40
#endif

/* Words of the frame. */
enum {
	UC_FLAGS,
	UC_STACK_FLAGS = 3,
	UC_R8 = 5,
	UC_RDI = 13,
	UC_RSI,
	UC_RBP,
	UC_RBX,
	UC_RDX,
	UC_RAX,
	UC_RCX,
	UC_RSP,
	UC_RIP,
	UC_EFLAGS,
	UC_SEGMENTS,
	UC_FPSTATE = 28,
	UC_MASK = 37
};

uint64_t tracee_first_number(const struct tracee *t)
{
	static const uint32_t numbers[] = {SYS_futex, SYS_clock_nanosleep, SYS_nanosleep, SYS_poll};
	unsigned char text[CODE_MOST];
	uint32_t number;

	if (t->regs.orig_rax != SYS_restart_syscall ||
	    remote_read(t->space, t->regs.rip - 2 - sizeof(text), text, sizeof(text)))
		return t->regs.orig_rax;
	for (size_t at = sizeof(text) - 5; at; at--) {
		if (text[at] != 0xb8) /* mov $number,%eax */
			continue;
		memcpy(&number, text + at + 1, sizeof(number));
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			if (number == numbers[i])
				return number;
	}
	return t->regs.orig_rax;
}

/* The thread before the `syscall` instruction of the call that it slept in. */
void tracee_make_frame(const struct tracee *t, void *to, uint64_t xstate)
{
	const struct user_regs_struct *r = &t->regs;
	uint64_t frame[TRACEE_FRAME / 8] = {0};
	const uint64_t extended[] = {r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

	frame[UC_FLAGS] = 1 | 2 | 4; /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
	frame[UC_STACK_FLAGS] = INJECT_STACK_FLAGS;
	memcpy(frame + UC_R8, extended, sizeof(extended));
	frame[UC_RDI] = r->rdi;
	frame[UC_RSI] = r->rsi;
	frame[UC_RBP] = r->rbp;
	frame[UC_RBX] = r->rbx;
	frame[UC_RDX] = r->rdx;
	frame[UC_RAX] = t->number;
	frame[UC_RCX] = r->rcx;
	frame[UC_RSP] = r->rsp;
	frame[UC_RIP] = r->rip - 2;
	frame[UC_EFLAGS] = r->eflags;
	frame[UC_SEGMENTS] = (r->cs & 0xffff) | (r->ss & 0xffff) << 48;
	frame[UC_FPSTATE] = xstate;
	frame[UC_MASK] = t->mask;
	memcpy(to, frame, sizeof(frame));
}

/* What ptrace gave, with the words by which the kernel knows a frame that has all of it. */
size_t tracee_make_xstate(const struct tracee *t, unsigned char *to)
{
	const uint32_t first = 0x46505853, last = 0x46505845, size = (uint32_t)t->xstate_size;
	const uint32_t extended = size + 4;

	memcpy(to, t->xstate, t->xstate_size);
	/* Which parts there are is where ptrace has it, too: the first 8 bytes there. */
	memcpy(to + MAGIC_AT + 8, t->xstate + MAGIC_AT, 8);
	memcpy(to + MAGIC_AT, &first, 4);
	memcpy(to + MAGIC_AT + 4, &extended, 4);
	memcpy(to + MAGIC_AT + 16, &size, 4);
	memcpy(to + t->xstate_size, &last, 4);
	return t->xstate_size + 4;
}

bool tracee_has_frame(const struct tracee *t)
{
	return t->xstate_size >= MAGIC_AT + 48;
}

/* ------------------------------------------------------------------ what libc has for it */

/* Where @code is in an executable mapping of @module; 0: nowhere. */
static uint64_t find_code(const struct remote_space *space, const struct remote_map *map,
			  const void *code, size_t size)
{
	unsigned char *text = malloc(CODE + CODE_MOST);
	uint64_t found = 0;

	for (uint64_t at = map->start; text && !found && at < map->end; at += CODE) {
		size_t n = map->end - at < CODE + CODE_MOST ? map->end - at : CODE + CODE_MOST;
		const unsigned char *hit =
			remote_read(space, at, text, n) ? NULL : memmem(text, n, code, size);

		if (hit)
			found = at + (uint64_t)(hit - text);
	}
	free(text);
	return found;
}

/* The largest room behind a segment that nobody writes. */
static void find_room(const struct remote_space *space, const struct remote_module *libc,
		      struct tracee_way *way)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	Elf64_Ehdr head;

	if (remote_read(space, libc->start, &head, sizeof(head)) || head.e_phnum > PHDRS_MAX ||
	    head.e_phentsize != sizeof(*phdrs) ||
	    remote_read(space, libc->start + head.e_phoff, phdrs, head.e_phnum * sizeof(*phdrs)))
		return;
	for (size_t i = 0; i < head.e_phnum; i++) {
		uint64_t end = libc->bias + phdrs[i].p_vaddr + phdrs[i].p_memsz;
		uint64_t at = (end + 63) & ~(uint64_t)63;
		uint64_t top = (end + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
		const struct remote_map *map = remote_map_at(space, end - 1);

		if (phdrs[i].p_type != PT_LOAD || phdrs[i].p_flags & PF_W || top <= at ||
		    top - at <= way->room || !map || map->end < top)
			continue;
		way->frame = at;
		way->room = (size_t)(top - at);
	}
}

void tracee_find_way(const struct remote_space *space, const struct remote_module *libc,
		     struct tracee_way *way)
{
	static const unsigned char call[] = {0x0f, 0x05, 0xc3}; /* syscall; ret */
	/* mov $15,%rax; syscall */
	static const unsigned char back[] = {0x48, 0xc7, 0xc0, SYS_rt_sigreturn, 0, 0,
					     0,    0x0f, 0x05};

	*way = (struct tracee_way){0};
#ifdef INJECT_NO_WAY /* the tests' control */
	return;
#endif
	for (size_t i = 0; i < space->maps_n; i++) {
		const struct remote_map *map = &space->maps[i];

		if (!map->is_executable || map->start < libc->start ||
		    map->end > libc->end + PAGE_BYTES)
			continue;
		way->call = way->call ? way->call : find_code(space, map, call, sizeof(call));
		way->back = way->back ? way->back : find_code(space, map, back, sizeof(back));
	}
	find_room(space, libc, way);
	if (!way->call || !way->back)
		way->room = 0;
}

/* ------------------------------------------------------------------------ put there */

enum { XSTATE_FROM = (8 + TRACEE_FRAME + 63) & ~63 };

static size_t whole_size(const struct tracee *t)
{
	return XSTATE_FROM + t->xstate_size + 4;
}

int tracee_open_way(struct tracee *t)
{
	unsigned char *frame;
	size_t size = whole_size(t);
	int err;

	if (!t->way.room || !tracee_has_frame(t) || size > t->way.room)
		return 0;
	frame = calloc(1, size);
	t->kept = malloc(size);
	err = frame && t->kept ? 0 : -ENOMEM;
	if (!err) {
		memcpy(frame, &t->way.back, sizeof(t->way.back));
		tracee_make_frame(t, frame + 8, t->way.frame + XSTATE_FROM);
		(void)tracee_make_xstate(t, frame + XSTATE_FROM);
		err = remote_read(t->space, t->way.frame, t->kept, size);
	}
	if (!err)
		err = remote_write(t->space, t->way.frame, frame, size);
	free(frame);
	t->has_way = !err;
	if (err) {
		free(t->kept);
		t->kept = NULL;
	}
	return err == -ENOMEM ? err : 0; /* without it, else */
}

void tracee_close_way(struct tracee *t)
{
	if (t->has_way)
		(void)remote_write(t->space, t->way.frame, t->kept, whole_size(t));
	free(t->kept);
	t->kept = NULL;
	t->has_way = false;
}
