/* SPDX-License-Identifier: MIT */
/* From the line of a request to what answers it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/inspect.h>

#include "agent/agent.h"
#include "agent/words.h"
#include "linux/entry/entries.h"

static void hello(struct agent_reply *reply)
{
	agent_reply_word(reply, "protocol");
	agent_reply_word(reply, AGENT_PROTOCOL);
	agent_reply_line(reply);
	agent_reply_word(reply, "version");
	agent_reply_word(reply, SHUNT_VERSION);
	agent_reply_line(reply);
	agent_reply_number(reply, "pid", (unsigned long long)getpid());
	agent_reply_number(reply, "uid", geteuid());
	agent_reply_word(reply, "tracer");
	agent_reply_word(reply, agent_session_owner());
	agent_reply_line(reply);
	agent_reply_word(reply, "tracing");
	agent_reply_word(reply, agent_session_what());
	agent_reply_line(reply);
}

/*
 * The '=' behind the key: the last one behind a name that begins the word, or stands behind a ':',
 * as the folder or the name of the module may have others. NULL: none.
 */
static char *end_of_key(char *word)
{
	char *name = word, *end = NULL;

	for (char *at = word; *at; at++) {
		if (*at == '=' && name && at != name && at[1])
			end = at;
		if (*at == ':')
			name = at + 1;
		else if (*at == '=' || *at == '/')
			name = NULL;
	}
	return end;
}

static void set(char **words, size_t n, struct agent_reply *reply)
{
	struct shunt_setting *settings = agent_alloc((n + 1) * sizeof(*settings));
	int err;

	if (!settings) {
		agent_reply_fail(reply, ENOMEM, "no memory for %zu keys", n);
		return;
	}
	for (size_t i = 0; i < n && !reply->error; i++) {
		char *equals = end_of_key(words[i]);

		if (!equals) {
			agent_reply_fail(reply, EINVAL, "set: \"%s\" is not KEY=VALUE", words[i]);
			continue;
		}
		*equals = '\0';
		settings[i] = (struct shunt_setting){.key = words[i], .value = equals + 1};
	}
	err = reply->error ? 0 : shunt_set_keys(settings, n);
	if (err)
		agent_reply_fail(reply, -err, "%s", shunt_last_error());
	agent_free(settings);
}

static void detach(struct agent_server *server, struct agent_client *client,
		   struct agent_reply *reply)
{
	size_t left;
	int err;

	atomic_store(&server->life, AGENT_ENDS);
	agent_session_end();
	err = shunt_entries_restore(&left);
	agent_reply_number(reply, "entries_left", left);
	if (err) {
		agent_reply_word(reply, "why");
		agent_reply_word(reply, shunt_last_error());
		agent_reply_line(reply);
	}
	client->is_last = true;
}

/* stay [children]: what the answer says is whether it would have ended. */
static void stay(struct agent_server *server, const char *children, struct agent_reply *reply)
{
	bool was_temporary = agent_stays(server);

	if (atomic_load(&server->life) == AGENT_ENDS) {
		agent_reply_fail(reply, ESHUTDOWN, "the agent is about to end");
		return;
	}
	if (children && !strcmp(children, "children"))
		atomic_store(&agent_is_in_children, true);
	agent_reply_number(reply, "was_temporary", was_temporary);
}

static void leave(struct agent_server *server, struct agent_client *client,
		  struct agent_reply *reply)
{
	int life = AGENT_GOES;
	bool ends = !agent_has_other_clients(server, client) &&
		    atomic_compare_exchange_strong(&server->life, &life, AGENT_ENDS);

	agent_reply_number(reply, "stays", !ends);
	if (ends)
		detach(server, client, reply);
}

static size_t split(char *line, char **words)
{
	size_t n = 0;

	for (char *word = line; word && n < AGENT_WORDS;) {
		char *tab = strchr(word, '\t');

		if (tab)
			*tab = '\0';
		words[n++] = word;
		agent_unescape(word);
		word = tab ? tab + 1 : NULL;
	}
	return n;
}

/* As many as split() takes, and no more. */
static bool has_too_many_words(const char *line)
{
	size_t n = 1;

	for (; *line; line++)
		n += *line == '\t';
	return n > AGENT_WORDS;
}

void agent_answer(struct agent_server *server, struct agent_client *client, char *line,
		  struct agent_reply *reply)
{
	bool is_too_long = has_too_many_words(line);
	char *words[AGENT_WORDS];
	size_t n = split(line, words);
	const char *what = n ? words[0] : line;

	if (is_too_long)
		agent_reply_fail(reply, E2BIG, "a request of more than %d words", AGENT_WORDS);
	else if (!strcmp(what, "hello"))
		hello(reply);
	else if (!strcmp(what, "keys"))
		agent_list_keys(reply);
	else if (!strcmp(what, "functions"))
		agent_list_functions(reply, n > 1 ? words[1] : NULL);
	else if (!strcmp(what, "modules"))
		agent_list_modules(reply);
	else if (!strcmp(what, "stats"))
		agent_list_stats(reply);
	else if (!strcmp(what, "set"))
		set(words + 1, n - 1, reply);
	else if (!strcmp(what, "trace"))
		agent_session_start(client, words + 1, n - 1, reply);
	else if (!strcmp(what, "stop"))
		agent_session_stop(client, reply);
	else if (!strcmp(what, "snapshot"))
		agent_session_snapshot(client, reply);
	else if (!strcmp(what, "stay"))
		stay(server, n > 1 ? words[1] : NULL, reply);
	else if (!strcmp(what, "leave"))
		leave(server, client, reply);
	else if (!strcmp(what, "detach"))
		detach(server, client, reply);
	else
		agent_reply_fail(reply, EINVAL, "no such request: %s", what);
}
