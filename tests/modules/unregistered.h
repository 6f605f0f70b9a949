/* SPDX-License-Identifier: MIT */
/* What unregistered.c and its plugin know of each other. */
#ifndef SHUNT_TESTS_MODULES_UNREGISTERED_H
#define SHUNT_TESTS_MODULES_UNREGISTERED_H

/* How the plugin makes itself known. */
enum known_how {
	KNOWN_ONCE,
	KNOWN_NEWER,     /* by a descriptor that has grown since */
	KNOWN_OLDER,     /* by one that ends before the bounds of the veneers */
	KNOWN_UNPLACED,  /* by one that is in no module */
	KNOWN_300_TIMES, /* by 300 of these */
	KNOWN_NO_MEMORY, /* the same when there is none */
	KNOWN_TWICE,     /* by two descriptors of its own */
	KNOWN_AS_TWO,    /* the same, but the second one says that its keys are others */
	KNOWN_FOLDED,    /* with two tests, of two keys, at one address */
	KNOWN_SILENT,    /* and goes without a word, as where a program unmaps it */
};

PUBLIC extern enum known_how known_how;

/* What the plugin's code saw on its way out: results of updates, and what its test said. */
struct known_end {
	int last_enable, last_test, last_update,
		last_call;              /* in its last destructor but libshunt's */
	int enable, test, update, call; /* when it was not known any more */
};
PUBLIC extern struct known_end known_end;

struct known_plugin {
	bool (*host_is_on)(void);
	bool (*own_is_on)(void);
	int (*own_call)(void); /* 1 or 2 */
	int (*turn)(bool on);
	int (*update)(bool to_two);
	unsigned (*own_marks)(void); /* that libshunt has put on its key */
};

#endif
