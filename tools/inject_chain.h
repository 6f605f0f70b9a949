/* SPDX-License-Identifier: MIT */
/*
 * The call chain of a stopped thread, unwound from its registers by the call frame information of
 * its modules (.eh_frame), by nothing else: no frame pointers, no guesses from words.
 */
#ifndef SHUNT_TOOLS_INJECT_CHAIN_H
#define SHUNT_TOOLS_INJECT_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "remote_elf.h"

enum { CHAIN_FRAMES = 1024 };

struct chain {
	/* The last frame is the outermost: its call frame information says that nothing called it.
	 */
	bool is_whole;
	size_t n; /* 0: nothing is known; else frames[0] is where the thread is */
	struct {
		uint64_t instruction; /* the next one, behind the call */
		uint64_t stack;       /* rsp */
	} frames[CHAIN_FRAMES];
};

struct chain_reader;

/* Whether there is anything that unwinds, in this build. */
bool chain_is_available(void);

/* What unwinds threads of the process, whose modules must not change in @space. NULL: nothing does,
 * for want of memory or in a build without libdw. */
struct chain_reader *chain_reader_open(const struct remote_space *space);
void chain_reader_close(struct chain_reader *reader);

/* Read what there is of the module at @address, that no stopped thread has to wait for it. */
void chain_reader_load(struct chain_reader *reader, uint64_t address);

/* The chain of thread @tid, which is stopped with @regs. */
void chain_read(struct chain_reader *reader, pid_t tid, const struct user_regs_struct *regs,
		struct chain *chain);

#endif
