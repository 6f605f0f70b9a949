/* SPDX-License-Identifier: MIT */
/* Without libdw nothing is unwound: the words of the stacks decide. */
#include "inject_chain.h"

bool chain_is_available(void)
{
	return false;
}

struct chain_reader *chain_reader_open(const struct remote_space *space)
{
	(void)space;
	return NULL;
}

void chain_reader_close(struct chain_reader *reader)
{
	(void)reader;
}

void chain_reader_load(struct chain_reader *reader, uint64_t address)
{
	(void)reader, (void)address;
}

void chain_read(struct chain_reader *reader, pid_t tid, const struct user_regs_struct *regs,
		struct chain *chain)
{
	(void)reader, (void)tid, (void)regs;
	chain->n = 0;
	chain->is_whole = false;
}
