/* SPDX-License-Identifier: MIT */
/* The program's keys and sites, for all programs here; and small things for their tests. */
#include "programs.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int host_notes[16];

int host_default(int x)
{
	return x + 100000;
}

int host_other(int x)
{
	return x + 200000;
}

DEFINE_STATIC_CALL(host_call, host_default);
EXPORT_STATIC_CALL(host_call);
DEFINE_STATIC_KEY_FALSE(host_branch);
EXPORT_STATIC_KEY(host_branch);

int host_site(int x)
{
	return static_call(host_call)(x) + 0 * x;
}

int host_tail(int x)
{
	return static_call(host_call)(x);
}

bool host_test(void)
{
	return static_branch_unlikely(&host_branch);
}

bool host_reaches(int added)
{
	return host_site(1) == added + 1 && host_tail(2) == added + 2 && host_jcc(3) == added + 3 &&
	       host_jcc(0) == -1;
}

/* ------------------------------------------------------------------- plugins */

const struct plugin *plugin_open(const char *path, void **handle)
{
	const struct plugin *p = NULL;

	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (*handle)
		p = dlsym(*handle, "plugin");
	if (!p)
		diag("%s", dlerror());
	return p;
}

/* As if just loaded: everything that it does by default. */
bool plugin_works(const struct plugin *p, int host_added, bool on)
{
	return p->own(1) == 1 + 10 * p->number && p->own_branch() &&
	       p->exported(1) == 1 + 10 * p->number && p->host(1) == 2 * (host_added + 1) &&
	       p->host_tail(1) == host_added + 1 && p->host_is_on() == on;
}

/* ------------------------------------------------------------------ messages */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char messages[64][512];
static unsigned nr_messages;

static void on_message(const char *message, void *arg)
{
	(void)arg;
	(void)pthread_mutex_lock(&lock);
	(void)snprintf(messages[nr_messages++ % 64], sizeof(messages[0]), "%s", message);
	(void)pthread_mutex_unlock(&lock);
}

void messages_start(void)
{
	nr_messages = 0;
	shunt_set_log(on_message, NULL);
}

unsigned messages_with(const char *part)
{
	unsigned n = 0;

	for (unsigned i = 0; i < nr_messages && i < 64; i++)
		n += strstr(messages[i], part) != NULL;
	return n;
}

void messages_print(void)
{
	for (unsigned i = 0; i < nr_messages && i < 64; i++)
		diag("message: %s", messages[i]);
}

/* --------------------------------------------------------------------- sites */

struct look {
	const char *module;
	struct site_counts *counts;
};

static int count_site(const struct shunt_site_info *info, void *arg)
{
	struct look *look = arg;

	if (look->module && !strstr(info->module, look->module))
		return 0;
	look->counts->all++;
	look->counts->by_state[info->state]++;
	return 0;
}

struct site_counts count_sites(const char *key, const char *module)
{
	struct site_counts counts = {0};
	struct look look = {module, &counts};

	if (shunt_for_each_site(key, count_site, &look))
		abort();
	return counts;
}
