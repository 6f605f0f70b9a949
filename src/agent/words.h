/* SPDX-License-Identifier: MIT */
/* Words of the protocol (agent.h), for both sides of it. */
#ifndef SHUNT_AGENT_WORDS_H
#define SHUNT_AGENT_WORDS_H

/* Take the escapes out of @word, in place: \t, \n, \\. */
static inline void agent_unescape(char *word)
{
	char *to = word;

	for (const char *from = word; *from; from++) {
		char c = *from;

		if (c == '\\' && from[1]) {
			from++;
			c = (char)(*from == 't' ? '\t' : *from == 'n' ? '\n' : *from);
		}
		*to++ = c;
	}
	*to = '\0';
}

#endif
