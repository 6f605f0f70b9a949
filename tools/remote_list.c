/* SPDX-License-Identifier: MIT */
/*
 * `shunt list`: keys, functions, modules of a running process. The JSON's field names are a promise
 * to scripts; its "version" grows with whatever would break one.
 */
#include "shunt.h"

#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"
#include "remote_common.h"
#include "remote_keys.h"
#include "trace_file.h"
#include "trace_names.h"

#define USAGE                                                                                   \
	"list PID [keys|functions|modules] [-F GLOB] [--all]\n"                                 \
	"                  [--json|--names|--values KEY]\n"                                     \
	"What is in process PID: its keys (if nothing is said), the functions that\n"           \
	"could be traced, or the modules that are loaded.\n"                                    \
	"\n"                                                                                    \
	"  -F, --filter GLOB   whose name matches, alone; of functions also \"module:glob\",\n" \
	"                      and names of C++ are mangled there\n"                            \
	"  -a, --all           functions that cannot be traced, too, and why\n"                 \
	"      --names         their names alone, one a line\n"                                 \
	"      --values KEY    what KEY can be set to, one a line\n"                            \
	"  -j, --json          one object of JSON\n"                                            \
	"\n"                                                                                    \
	"examples:\n"                                                                           \
	"  shunt list 1234\n"                                                                   \
	"  shunt list 1234 functions -F 'parse_*'\n"                                            \
	"  shunt list 1234 keys --json | jq '.keys[] | select(.type == \"branch\")'"

enum { JSON_VERSION = 1 };

/* The words of the agent's other lines, src/agent/list.c. */
enum { FN_NAME = 1, FN_MODULE, FN_KIND, FN_OPS, FN_WHY };
enum { MOD_PATH = 1, MOD_FUNCTIONS, MOD_TRACEABLE, MOD_TRACED, MOD_KEYS };

static json_t *json_key(char **w, size_t n)
{
	json_t *choices = json_array();

	for (size_t i = KEY_CHOICES; i < n; i++)
		(void)json_array_append_new(choices, remote_json_string(w[i]));
	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
			 remote_json_string(w[KEY_NAME]), "type", w[KEY_TYPE], "value",
			 remote_json_value(w[KEY_VALUE]), "sites", remote_json_number(w[KEY_SITES]),
			 "inline_sites", remote_json_number(w[KEY_INLINE]), "module",
			 remote_json_text(w[KEY_MODULE]), "why", remote_json_text(w[KEY_WHY]),
			 "choices", choices);
}

static json_t *json_function_name(const char *symbol)
{
	char *name = trace_demangle(symbol);
	json_t *json = remote_json_text(name ? name : symbol);

	free(name);
	return json;
}

static json_t *json_function(char **w, size_t n)
{
	(void)n;
	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "name",
			 remote_json_text(w[FN_NAME]), "symbol", remote_json_text(w[FN_NAME]),
			 "function", json_function_name(w[FN_NAME]), "module",
			 remote_json_text(w[FN_MODULE]), "kind", w[FN_KIND], "tracers",
			 remote_json_number(w[FN_OPS]), "why", remote_json_text(w[FN_WHY]));
}

static json_t *json_module(char **w, size_t n)
{
	(void)n;
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "path", remote_json_string(w[MOD_PATH]),
			 "functions", remote_json_number(w[MOD_FUNCTIONS]), "traceable",
			 remote_json_number(w[MOD_TRACEABLE]), "traced",
			 remote_json_number(w[MOD_TRACED]), "keys",
			 remote_json_number(w[MOD_KEYS]));
}

static void show_key(char **w, size_t n)
{
	bool is_branch = !strcmp(w[KEY_TYPE], "branch");
	const char *value = !is_branch ? w[KEY_VALUE] : strcmp(w[KEY_VALUE], "0") ? "on" : "off";

	(void)printf("%-6s %-28s %-20s %6s %6s  %s", w[KEY_TYPE], w[KEY_NAME], value, w[KEY_SITES],
		     w[KEY_INLINE], trace_base_name(w[KEY_MODULE]));
	if (is_branch && strlen(w[KEY_VALUE]) && strcmp(w[KEY_VALUE], "0") != 0 &&
	    strcmp(w[KEY_VALUE], "1") != 0)
		(void)printf("  count: %s", w[KEY_VALUE]);
	for (size_t i = KEY_CHOICES; i < n; i++)
		(void)printf("%s%s", i == KEY_CHOICES ? "  choices: " : ", ", w[i]);
	(void)printf("%s%s\n", *w[KEY_WHY] ? "  " : "", w[KEY_WHY]);
}

static void show_function(char **w, size_t n)
{
	char *name = trace_demangle(w[FN_NAME]);

	(void)n;
	(void)printf("%-10s %-8s %-40s %s%s%s\n", w[FN_KIND],
		     *w[FN_WHY]                    ? "no"
		     : strcmp(w[FN_OPS], "0") != 0 ? "traced"
						   : "-",
		     name          ? name
		     : *w[FN_NAME] ? w[FN_NAME]
				   : "?",
		     trace_base_name(w[FN_MODULE]), *w[FN_WHY] ? "  " : "", w[FN_WHY]);
	free(name);
}

static void show_module(char **w, size_t n)
{
	(void)n;
	(void)printf("%9s %9s %7s %5s  %s\n", w[MOD_FUNCTIONS], w[MOD_TRACEABLE], w[MOD_TRACED],
		     w[MOD_KEYS], w[MOD_PATH]);
}

static const struct kind {
	const char *name, *line;
	size_t match; /* the word that -F is for */
	json_t *(*json)(char **words, size_t n);
	void (*show)(char **words, size_t n);
	const char *head;
} kinds[] = {
	{"keys", "key", KEY_NAME, json_key, show_key,
	 "TYPE   KEY                          VALUE                 SITES INLINE  MODULE\n"},
	{"functions", "function", FN_NAME, json_function, show_function,
	 "ENTRY      STATE    FUNCTION                                 MODULE\n"},
	{"modules", "module", MOD_PATH, json_module, show_module,
	 "FUNCTIONS TRACEABLE  TRACED  KEYS  MODULE\n"},
};

enum { OPT_NAMES = 256, OPT_VALUES };

struct listing {
	pid_t pid;
	const struct kind *kind;
	const char *glob;      /* NULL: all */
	const char *values_of; /* a key: what it can be set to, a line each; NULL: the list */
	bool json, names;      /* @names: they alone, a line each */
	bool all;              /* functions that cannot be traced, too */
	struct remote_keys keys;
	size_t next; /* of the keys' lines */
};

/* "NAME", or "MODULE:NAME". */
static bool is_key(const char *key, char **words)
{
	const char *module = trace_base_name(words[KEY_MODULE]);
	size_t len = strlen(module);

	return !strcmp(key, words[KEY_NAME]) || (!strncmp(key, module, len) && key[len] == ':' &&
						 !strcmp(key + len + 1, words[KEY_NAME]));
}

/* Whether a key's line is asked for, by its name as it was defined or as it is shown. */
static bool is_wanted_key(const struct listing *l, char **words, const char *shown)
{
	if (l->values_of)
		return is_key(l->values_of, words) || !strcmp(l->values_of, shown);
	return !l->glob || !fnmatch(l->glob, words[KEY_NAME], 0) || !fnmatch(l->glob, shown, 0);
}

/* The agent has looked at functions. A key has the name that is shown from then on. */
static bool is_wanted(struct listing *l, char **words)
{
	const char *name = words[l->kind->match];

	if (strcmp(words[0], l->kind->line) != 0)
		return false;
	if (l->kind->json == json_key) {
		const char *shown = remote_keys_name(&l->keys, l->next++);
		bool is = is_wanted_key(l, words, shown);

		words[KEY_NAME] = (char *)(uintptr_t)shown;
		return is;
	}
	if (!l->glob || l->kind->json == json_function)
		return true;
	return !fnmatch(l->glob, name, 0) || !fnmatch(l->glob, trace_base_name(name), 0);
}

static int show_json(struct listing *l, char *at)
{
	json_t *list = json_array(), *root = NULL;
	struct remote_line line = {0};
	int more = list ? 1 : -1;

	while (more > 0 && (more = remote_next_row("list", &at, &line)) > 0)
		if (is_wanted(l, line.words) &&
		    json_array_append_new(list, l->kind->json(line.words, line.n)))
			more = -1;
	remote_line_free(&line);
	if (!more)
		root = json_pack("{s:i, s:i, s:O}", "version", JSON_VERSION, "pid", (int)l->pid,
				 l->kind->name, list);
	json_decref(list);
	return remote_print_json("list", root);
}

/* Why functions cannot be traced, and how many of each; the last one: all others. */
struct reasons {
	struct {
		char why[160];
		size_t count;
	} each[12];
	size_t n;
};

static void count_reason(struct reasons *r, const char *why)
{
	size_t most = sizeof(r->each) / sizeof(r->each[0]), i = 0;

	while (i < r->n && strncmp(r->each[i].why, why, sizeof(r->each[i].why) - 1) != 0)
		i++;
	if (i == most)
		i = most - 1;
	else if (i == r->n)
		(void)snprintf(r->each[r->n++].why, sizeof(r->each[i].why), "%s",
			       i == most - 1 ? "other reasons" : why);
	r->each[i].count++;
}

static void show_end(const struct listing *l, const struct reasons *r, size_t shown)
{
	size_t all = 0;

	for (size_t i = 0; i < r->n; i++)
		all += r->each[i].count;
	if (!shown && !all)
		(void)printf("no %s%s\n", l->kind->name, l->glob ? " of such a name" : "");
	if (!all)
		return;
	(void)printf("%s%zu function%s that cannot be traced (--all lists them):\n",
		     shown ? "and " : "", all, tool_plural(all));
	for (size_t i = 0; i < r->n; i++)
		(void)printf("%10zu  %s\n", r->each[i].count, r->each[i].why);
}

static int show_table(struct listing *l, char *at)
{
	struct reasons reasons = {.n = 0};
	struct remote_line line = {0};
	size_t shown = 0;
	int more;

	while ((more = remote_next_row("list", &at, &line)) > 0) {
		if (!is_wanted(l, line.words))
			continue;
		remote_make_printable(&line);
		if (l->kind->json == json_function && !l->all && *line.words[FN_WHY]) {
			count_reason(&reasons, line.words[FN_WHY]);
			continue;
		}
		if (!shown++)
			(void)fputs(l->kind->head, stdout);
		l->kind->show(line.words, line.n);
	}
	remote_line_free(&line);
	if (!more)
		show_end(l, &reasons, shown);
	return more ? EXIT_FAILURE : 0;
}

static void show_line(char *word)
{
	(void)trace_make_printable(word);
	(void)puts(word);
}

static void show_values(const struct remote_line *line)
{
	static const char *const of_branch[] = {"on", "off", "+1", "-1"};

	if (!strcmp(line->words[KEY_TYPE], "branch"))
		for (size_t i = 0; i < sizeof(of_branch) / sizeof(of_branch[0]); i++)
			(void)puts(of_branch[i]);
	for (size_t i = KEY_CHOICES; i < line->n; i++)
		show_line(line->words[i]);
}

/* For a shell's completion: no columns, which a name could have in it. */
static int show_lines(struct listing *l, char *at)
{
	struct remote_line line = {0};
	int more;

	while ((more = remote_next_row("list", &at, &line)) > 0) {
		if (!is_wanted(l, line.words))
			continue;
		if (!l->values_of)
			show_line(line.words[l->kind->match]);
		else
			show_values(&line);
	}
	remote_line_free(&line);
	return more ? EXIT_FAILURE : 0;
}

static int list(struct listing *l)
{
	const char *request[] = {l->kind->name, l->glob};
	bool is_matched_there = l->kind->json == json_function && l->glob;
	char *reply;
	int status;

	if (remote_request_once("list", l->pid, request, is_matched_there ? 2 : 1, -1, &reply))
		return EXIT_FAILURE;
	if (l->kind->json == json_key && remote_keys_read(&l->keys, reply)) {
		tool_complain("list: no memory for the keys");
		status = EXIT_FAILURE;
	} else {
		status = l->json                    ? show_json(l, reply)
			 : l->names || l->values_of ? show_lines(l, reply)
						    : show_table(l, reply);
	}
	remote_keys_free(&l->keys);
	free(reply);
	return status;
}

static bool take_kind(struct listing *l, const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(name, kinds[i].name))
			l->kind = &kinds[i];
	if (!l->kind)
		tool_complain("list: %s: it lists keys, functions, modules", name);
	return l->kind;
}

int cmd_list(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"all", no_argument, NULL, 'a'},
						{"filter", required_argument, NULL, 'F'},
						{"names", no_argument, NULL, OPT_NAMES},
						{"values", required_argument, NULL, OPT_VALUES},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	struct listing l = {0};
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "F:ajh", options, NULL)) != -1) {
		if (option == 'F') {
			l.glob = optarg;
		} else if (option == 'j') {
			l.json = true;
		} else if (option == 'a') {
			l.all = true;
		} else if (option == OPT_NAMES) {
			l.names = true;
		} else if (option == OPT_VALUES) {
			l.values_of = optarg;
		} else if (option == 'h') {
			(void)puts("usage: shunt " USAGE);
			return 0;
		} else {
			return tool_usage(USAGE);
		}
	}
	if (optind == argc || optind + 2 < argc) {
		tool_complain(optind == argc ? "PID is missing" : "too many arguments");
		return tool_usage(USAGE);
	}
	if (!remote_read_pid("list", argv[optind], &l.pid) ||
	    !take_kind(&l, optind + 1 < argc ? argv[optind + 1] : "keys"))
		return EXIT_USAGE;
	if (l.all && l.kind->json != json_function) {
		tool_complain("list: --all is of functions");
		return EXIT_USAGE;
	}
	if (l.values_of && l.kind->json != json_key) {
		tool_complain("list: --values is of a key");
		return EXIT_USAGE;
	}
	return list(&l);
}
