/* SPDX-License-Identifier: MIT */
/*
 * The agent (shunt/control.h): a thread that answers the `shunt` tool on a socket.
 *
 * The protocol, in both directions text: a request is one line of words with tabs between them,
 * with a descriptor beside it (SCM_RIGHTS) where it says so; the answer is "ok SIZE\n" and SIZE
 * bytes of lines of the same make, or "error NUMBER MESSAGE\n" with an errno. A word has \t, \n and
 * \\ for a tab, a newline and a backslash. A client sends the next request when it has read the
 * answer.
 *
 *	hello                    version, process, who traces
 *	keys                     each static key and static call
 *	functions [GLOB]         each function that could be traced, or why not
 *	modules                  what is loaded, with counts
 *	stats                    counters, and how text is written here
 *	set KEY=VALUE...         together: shunt_set_keys()
 *	trace OPTION=VALUE...    a session for this client; with the descriptor of a regular file,
 *	                         which is written, or in mode=flight saved to if the process ends
 *	stop                     its end
 *	snapshot                 with a descriptor: what the rings hold
 *	stay [children]          a temporary agent is one no more
 *	leave                    a temporary agent ends, if no other client is there
 *	detach                   the agent ends, with all sessions; which text stays as it is
 */
#ifndef SHUNT_AGENT_AGENT_H
#define SHUNT_AGENT_AGENT_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <shunt/module.h>

/* Limits, per process; shunt-agent(7) has them. */
enum {
	AGENT_CLIENTS = 16,        /* connections at a time */
	AGENT_REQUEST = 64 << 10,  /* bytes of a request */
	AGENT_WORDS = 1024,        /* of a request */
	AGENT_REPLY = 256 << 20,   /* bytes of an answer */
	AGENT_PATIENCE_MS = 10000, /* with a client in the middle of a request or an answer */
	AGENT_IDLE_MS = 60000      /* with one that asks nothing and has no session */
};

#define AGENT_PROTOCOL "1"

/* How often it looks whether its descriptors are still its own, where nothing tells it, and what
 * others have left. */
#ifndef AGENT_LOOK_MS /* the tests have less */
#define AGENT_LOOK_MS 120000
#endif

/* An answer as it is made. */
struct agent_reply {
	char *text; /* of agent_alloc() */
	size_t size, max;
	int error; /* errno; then @message says more */
	char message[600];
};

/* reply.c */
void agent_reply_word(struct agent_reply *reply, const char *word); /* NULL: "" */
void agent_reply_number(struct agent_reply *reply, const char *name, unsigned long long value);
void agent_reply_line(struct agent_reply *reply); /* the end of a line */
void agent_reply_fail(struct agent_reply *reply, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * descriptor.c: one of ours among the program's, above those that programs count on; which file it
 * is, because a program that closes all descriptors gives the number to a file of its own.
 */
struct agent_descriptor {
	int fd; /* -1: not open */
	unsigned long long device, inode;
};
/* Take over @fd. 0; or -errno, and it is closed. */
int agent_keep(struct agent_descriptor *to, int fd);
bool agent_is_ours(const struct agent_descriptor *d);
/* With fork() held, as agent_keep(); or in the agent's thread, which holds it for the moment. */
void agent_close(struct agent_descriptor *d);
void agent_close_here(struct agent_descriptor *d);

/*
 * memory.c: mappings of their own; NULL: no memory. agent_resize() as realloc(): where it fails the
 * old one stays.
 */
void *agent_alloc(size_t size);
void *agent_resize(void *memory, size_t size);
void agent_free(void *memory);
/* nap.c */
void agent_nap(unsigned ms);
/* idle.c: let the kernel unmap the libraries' text and constants, which come again when they are
 * used. */
void agent_drop_text(void);

/* Who is connected. */
struct agent_client {
	struct agent_descriptor socket;
	pid_t pid; /* 0: of another process namespace */
	uid_t uid;
	char *request; /* AGENT_REQUEST bytes, while one is read */
	size_t have;
	struct agent_descriptor passed; /* that came with it */
	bool has_lost_passed;           /* there was no number for it */
	char *answer;                   /* what has not been sent yet */
	size_t size, sent;
	long long since; /* ms: its last progress */
	bool has_session;
	bool is_last; /* the agent ends when the answer is sent */
};

struct agent_server;
/* requests.c: do what @line asks; @client->passed is the caller's to close. */
void agent_answer(struct agent_server *server, struct agent_client *client, char *line,
		  struct agent_reply *reply);

/* list.c */
void agent_list_keys(struct agent_reply *reply);
void agent_list_functions(struct agent_reply *reply, const char *glob);
void agent_list_modules(struct agent_reply *reply);
void agent_list_stats(struct agent_reply *reply);

/* session.c: the session of tracing that a client has; one at a time. */
void agent_session_start(struct agent_client *client, char **options, size_t n,
			 struct agent_reply *reply);
void agent_session_stop(struct agent_client *client, struct agent_reply *reply);
void agent_session_snapshot(const struct agent_client *client, struct agent_reply *reply);
/* The client goes: its session is taken back. */
void agent_session_drop(struct agent_client *client);
/* "PID (UID)" of who has it; NULL: nobody. */
const char *agent_session_owner(void);
const char *agent_session_what(void); /* what it traces */
/* Whoever has it: it ends. */
void agent_session_end(void);
/*
 * A session goes on in children of fork(), until its end in the process that it began in: they wait
 * for that on a pipe, whose other end is closed then. Where the program closes it that is an end,
 * too.
 */
bool agent_session_is_parents(void);
int agent_session_watch(void); /* readable then; -1: there is none */
bool agent_session_is_over(void);
/*
 * fork_lock.c. No fork() in between: of a session and its owner, of a descriptor and the number
 * that it is kept under. Outside of the recorder's own locks.
 */
void agent_hold_fork(void);
void agent_allow_fork(void);
void agent_renew_fork_lock(void); /* in a child */
void agent_session_in_child(void);

/*
 * address.c: a listening socket, and its path; or -errno, with @message. In a child of fork() the
 * file is removed at once, and @file holds it, for clients to find as /proc/PID/fd/NUMBER: children
 * end by _exit(), which nothing here sees.
 */
struct agent_address {
	struct agent_descriptor socket, file; /* @file: -1 where the path has it */
	char path[108];                       /* sun_path */
	bool has_folder;                      /* of its own, which goes with it */
};
int agent_listen(struct agent_address *address, bool is_child, char *message, size_t size);
void agent_unlisten(struct agent_address *address);
void agent_remove_address(const struct agent_address *address); /* its file */
/*
 * Take sockets out of @folder, but for @own, whose processes have ended without doing so: children
 * of fork() by _exit(), others by a signal.
 */
void agent_remove_stale(const char *folder, const char *own);

/* start.c, for `shunt attach`: as shunt_agent_start(), with these. */
enum {
	AGENT_IN_CHILDREN = 1, /* of fork(), too */
	AGENT_TEMPORARY = 2 /* a new one ends with its last client; one that runs stays as it is */
};
SHUNT_API int shunt_agent_attach(int how);
extern _Atomic bool agent_is_in_children; /* life.c */

/* What becomes of it when its last client has gone. From AGENT_ENDS there is no way back. */
enum agent_life { AGENT_STAYS, AGENT_GOES, AGENT_ENDS };

/* server.c: what the thread does, until @stop, which it looks at when @wake is readable. */
struct agent_server {
	struct agent_address address;
	/* A pipe. Its far end is not waited for, so that it ends as soon as that is closed: by a
	   program that closes all its descriptors. */
	struct agent_descriptor wake, far_end;
	long long opens_at; /* ms: behind that, when the program may be at it still; 0: they are
			       open */
	struct agent_descriptor spare; /* spare.c; -1: a client has it */
	long long deaf_until;          /* ms: nobody could be let in */
	long long lingers_until;       /* ms: although its last client has gone */
	struct agent_client clients[AGENT_CLIENTS];
	long long cleaned; /* ms: when it last looked for what others have left */
	_Atomic bool stop;
	_Atomic int life; /* enum agent_life; but for AGENT_STAYS it is not in children */
	bool is_child;
	unsigned text_drops;           /* since its last client */
	bool has_no_socket;            /* it is there for the end of the parent's session alone */
	_Atomic bool is_replaced;      /* and another one sees to that */
	unsigned failures;             /* to open them, one behind the other */
	bool has_first_ended;          /* the process's first thread */
	struct agent_descriptor other; /* of another thread, readable at its end: watch.c */
	long long others_at;           /* ms: when one is looked for again */
	bool is_alone;                 /* all of the program's have */
};
void agent_serve(struct agent_server *server);
/* life.c */
bool agent_has_other_clients(const struct agent_server *server, const struct agent_client *but);
/* Whether it was temporary. */
bool agent_stays(struct agent_server *server);
void agent_begin_temporary(struct agent_server *server); /* until its first client has come */
bool agent_is_over(struct agent_server *server);
/* wake.c; true: descriptors are others now, and whether it is to end is to be seen once more. */
long long agent_now_ms(void);
bool agent_see_to_descriptors(struct agent_server *server);
/* Both ends of the pipe. 0 or -errno. With fork() held, as agent_keep(). */
int agent_open_wake(struct agent_server *server);
void agent_close_wake(struct agent_server *server);
void agent_wake(const struct agent_server *server);
/*
 * last.c: whether all threads of the program have ended, and who is left are the agent and the
 * recorder. As poll(), which ends early where they have. And what is done when the agent ends for
 * that.
 */
bool agent_is_alone(struct agent_server *server);
/* @polled has room for one more. */
int agent_poll(struct agent_server *server, struct pollfd *polled, nfds_t n, int timeout);
void agent_end_last(void);
/*
 * watch.c. First: in the first thread, which tells of its end from then on. Other: watch a thread
 * of the program's, if there is one. Told: all cannot have ended before one of these tells it.
 */
void agent_watch_first(struct agent_server *server);
void agent_watch_other(struct agent_server *server);
bool agent_is_told(const struct agent_server *server);
bool agent_first_is_ending(void);
/* libshunt-trace's (src/trace/consumer.c): how many threads of this process are the recorder's. */
SHUNT_API unsigned shunt_trace_threads(void);
/*
 * spare.c: a descriptor for who connects when the program has none left. Take: where it is missing.
 * Give, with fork() held: its number is free. Regain: @from is closed, and its number is the
 * spare's.
 */
void agent_spare_take(struct agent_server *server);
bool agent_spare_give(struct agent_server *server);
void agent_spare_regain(struct agent_server *server, struct agent_descriptor *from);
/* Close all that it has open, in a child of fork(): without a word to the clients. */
void agent_abandon(struct agent_server *server);

#endif
