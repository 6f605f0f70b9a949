/* SPDX-License-Identifier: MIT */
/* Keys by their names (shunt/control.h): the choices of static calls, and a batch by names. */
#include <shunt/control.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <shunt/static_key.h>

#include "core/error.h"
#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/show/inspect.h"
#include "linux/show/key_names.h"

static struct shunt_choice *choices; /* guarded by the update lock */

/* ------------------------------------------------------------------- choices */

static void tell_choice_failed(const struct shunt_choice *choice, int error)
{
	bool has_call = shunt_failed_call && error != -EDEADLK; /* else the outer update's */

	shunt_message("STATIC_CALL_CHOICE(%s, %s): the update lock: %s%s%s", choice->key->name,
		      choice->name, has_call ? shunt_failed_call : "", has_call ? ": " : "",
		      shunt_error_text(error));
}

void shunt_choice_add(struct shunt_choice *choice)
{
	struct shunt_choice **end = &choices;
	int ret;

	if (!choice->key) {
		shunt_message("STATIC_CALL_CHOICE(..., %s): no module defines the key",
			      choice->name);
		return;
	}
	ret = shunt_port_lock();
	if (ret) {
		tell_choice_failed(choice, ret);
		return;
	}
	while (*end)
		end = &(*end)->next;
	choice->next = NULL;
	*end = choice;
	shunt_port_unlock();
}

static bool unlink_choice(struct shunt_choice *choice)
{
	for (struct shunt_choice **at = &choices; *at; at = &(*at)->next)
		if (*at == choice) {
			*at = choice->next;
			return true;
		}
	return false;
}

void shunt_choice_remove(struct shunt_choice *choice)
{
	int ret = shunt_port_lock();

	if (ret) {
		tell_choice_failed(choice, ret);
		return;
	}
	(void)unlink_choice(choice);
	shunt_port_unlock();
}

/* NULL: the key has none of that name. */
static const struct shunt_choice *find_choice(const struct static_call_key *key, const char *name)
{
	for (const struct shunt_choice *c = choices; c; c = c->next)
		if (c->key == key && !strcmp(c->name, name))
			return c;
	return NULL;
}

/* The message of what fails with the lock held, passed on without it. */
struct failure {
	char text[SHUNT_MESSAGE_MAX];
	/* Of the static call that does not take its value: what has a name that it may be. */
	void (*init)(void), (*now)(void);
};

static int fail(struct failure *failure, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* -------------------------------------------------------------------- values */

static int fail(struct failure *failure, int error, const char *format, ...)
{
	struct shunt_line line = {failure->text, failure->text + sizeof(failure->text), 0};
	va_list args;

	va_start(args, format);
	shunt_append_list(&line, format, args);
	va_end(args);
	return error;
}

/* The names of what the key may be set to, for a message; whether the program has made any. */
static bool append_choices(struct shunt_line *line, const struct static_call_key *key)
{
	bool has_any = false;

	shunt_append(line, "initial");
	if (key->flags & STATIC_CALL_NULLABLE)
		shunt_append(line, ", NULL");
	if (key->init == (void (*)(void))__static_call_return0)
		shunt_append(line, ", RET0");
	for (const struct shunt_choice *c = choices; c; c = c->next) {
		if (c->key != key)
			continue;
		shunt_append(line, ", %s", c->name);
		has_any = true;
	}
	return has_any;
}

static int refuse_value(struct failure *failure, const struct static_call_key *key,
			const struct shunt_setting *setting)
{
	struct shunt_line line = {failure->text, failure->text + sizeof(failure->text), 0};

	shunt_append(&line,
		     "shunt_set_keys: \"%s\" is no choice of the static call %s, which takes: ",
		     setting->value, setting->key);
	if (!append_choices(&line, key))
		shunt_append(&line, "; STATIC_CALL_CHOICE() in the program makes others");
	failure->init = key->init;
	failure->now = key->func;
	return -EINVAL;
}

/* A static call's value; @named: the function whose name it is, or NULL. 0 or -errno. */
static int call_value(const struct static_call_key *key, const struct shunt_setting *setting,
		      void (*named)(void), uintptr_t *to, struct failure *failure)
{
	const struct shunt_choice *choice = find_choice(key, setting->value);
	void (*const ret0)(void) = (void (*)(void))__static_call_return0;
	const char *why;
	void (*func)(void);

	if (choice)
		func = choice->func;
	else if (named && (named == key->init || named == key->func))
		func = named;
	else if (!strcmp(setting->value, "initial"))
		func = key->init;
	else if (!strcmp(setting->value, "RET0") && (key->init == ret0 || key->func == ret0))
		func = ret0;
	else if (!strcmp(setting->value, "NULL") && key->flags & STATIC_CALL_NULLABLE)
		func = NULL;
	else
		return refuse_value(failure, key, setting);
	if (func == __static_call_nop)
		func = NULL;
	why = shunt_static_call_value(key, func, to);
	return why ? fail(failure, -EINVAL, "shunt_set_keys: %s: %s", setting->key, why) : 0;
}

/* Whether @value is the count as it is, where that is above 1. */
static bool is_count(const char *value, int count)
{
	char digits[16];

	shunt_format(digits, sizeof(digits), "%d", count);
	return count > 1 && !strcmp(value, digits);
}

/*
 * A static key's value; @step: what the key has been counted by, to be taken back where the batch
 * fails. 0 or -errno.
 */
static int branch_value(struct shunt_static_key *key, const struct shunt_setting *setting,
			uintptr_t *to, int *step, struct failure *failure)
{
	const char *value = setting->value;
	int by = !strcmp(value, "+1") ? 1 : !strcmp(value, "-1") ? -1 : 0;
	int count = __atomic_load_n(&key->count, __ATOMIC_ACQUIRE);

	*to = !strcmp(value, "on") || is_count(value, count) || !strcmp(value, "1") ||
	      !strcmp(value, "true") || by > 0;
	if (!by && !*to && strcmp(value, "off") != 0 && strcmp(value, "0") != 0 &&
	    strcmp(value, "false") != 0)
		return fail(failure, -EINVAL,
			    "shunt_set_keys: \"%s\" for the static key %s, whose count is %d, and "
			    "which "
			    "takes: on, off, +1, -1",
			    value, setting->key, count);
	if (!by)
		return 0;
	if (shunt_static_key_step(key, by)) {
		*step = by;
		*to = 1;
		return 0;
	}
	if (by < 0 && !count)
		return fail(failure, -EINVAL, "shunt_set_keys: %s=-1: the count is 0",
			    setting->key);
	if (by > 0 && count)
		return fail(failure, -EOVERFLOW, "shunt_set_keys: %s=+1: the count is at its end",
			    setting->key);
	return 0;
}

/* --------------------------------------------------------------------- batch */

struct batch {
	const struct shunt_setting *settings;
	struct shunt_key_change *changes;
	int *steps;
	void (**named)(void); /* by the name of its value: the initial function, or the present one
			       */
	size_t n, failed;
	struct failure failure;
};

static int find_one(struct batch *b, size_t i)
{
	const struct shunt_setting *setting = &b->settings[i];
	struct shunt_key_change *change = &b->changes[i];
	struct shunt_found_key found = shunt_find_key(setting->key);

	if (!found.n)
		return fail(&b->failure, -ENOENT, "shunt_set_keys: there is no key %s",
			    setting->key);
	if (found.n > 1)
		return fail(
			&b->failure, -EINVAL,
			"shunt_set_keys: %s: %u keys have that name: NAME[INDEX] is an element of "
			"an "
			"array, MODULE:NAME a module's, call:NAME and branch:NAME are of one type",
			setting->key, found.n);
	change->kind = found.call ? &shunt_static_call_kind : &shunt_static_key_kind;
	change->key = found.call ? (void *)found.call : (void *)found.branch;
	for (size_t j = 0; j < i; j++)
		if (b->changes[j].key == change->key)
			return fail(&b->failure, -EINVAL, "shunt_set_keys: %s is in it twice",
				    setting->key);
	b->failed = i;
	return found.call ? call_value(found.call, setting, b->named[i], &change->to, &b->failure)
			  : branch_value(found.branch, setting, &change->to, &b->steps[i],
					 &b->failure);
}

/* Update lock held. What was counted is taken back by undo_steps(). */
static int find_all(struct batch *b)
{
	int ret = 0;

	for (size_t i = 0; i < b->n && !ret; i++)
		ret = find_one(b, i);
	return ret;
}

/* With the update lock held since they were made: nobody takes the count below them. */
static void undo_steps(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->steps[i])
			(void)shunt_static_key_step(b->changes[i].key, -b->steps[i]);
	memset(b->steps, 0, b->n * sizeof(*b->steps));
}

/*
 * The functions' modules are watched for, which cannot be done with the update lock; so the values
 * are found twice, and between the two a choice may have gone, or come.
 */
static int watch_values(struct batch *b)
{
	struct shunt_report report = {0};
	int ret = shunt_lock_to_change(b->settings[0].key, &report);

	if (ret)
		return shunt_report_result(&report, ret);
	ret = find_all(b);
	undo_steps(b);
	shunt_port_unlock();
	for (size_t i = 0; i < b->n && !ret; i++) {
		if (b->changes[i].kind != &shunt_static_call_kind)
			continue;
		ret = shunt_port_watch(b->changes[i].to);
		if (ret)
			return fail(&b->failure, ret,
				    "shunt_set_keys: %s: the module of %s cannot be watched",
				    b->settings[i].key, b->settings[i].value);
	}
	return ret;
}

static bool is_watched(const struct batch *b, const struct shunt_key_change *before)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->changes[i].to != before[i].to &&
		    b->changes[i].kind == &shunt_static_call_kind)
			return false;
	return true;
}

/* @before: what watch_values() found. 0, -errno, or 1: it is not the same any more. */
static int change_all(struct batch *b, struct shunt_key_change *before)
{
	struct shunt_report report = {0};
	int ret;

	memcpy(before, b->changes, b->n * sizeof(*before));
	ret = shunt_lock_to_change(b->settings[0].key, &report);
	if (ret)
		return shunt_report_result(&report, ret);
	ret = find_all(b);
	if (!ret && !is_watched(b, before))
		ret = 1;
	if (!ret)
		ret = shunt_change_keys_locked(b->changes, b->n, &report);
	if (ret)
		undo_steps(b);
	shunt_port_unlock();
	return report.error || report.what ? shunt_report_result(&report, ret) : ret;
}

static int set_keys(struct batch *b, struct shunt_key_change *before)
{
	int ret;

	do {
		ret = watch_values(b);
		if (!ret)
			ret = change_all(b, before);
	} while (ret == 1);
	return ret;
}

/* As shunt_for_each_key() shows it, or where it shows none, as an address: 1; 0; or -errno. */
static int is_name_of(void (*func)(void), const char *value)
{
	char address[32];

	shunt_format(address, sizeof(address), "%p", (void *)(uintptr_t)func);
	return !strcmp(value, address) ? 1 : shunt_is_function_name((void *)(uintptr_t)func, value);
}

/* No choice has the name: it may be that of the initial function, or of what the key calls now. */
static bool is_functions_name(struct batch *b)
{
	void (*init)(void) = b->failure.init, (*now)(void) = b->failure.now;
	const char *value = b->settings[b->failed].value;
	size_t len = strlen(b->failure.text);
	int is;

	if (!init || b->named[b->failed])
		return false;
	is = is_name_of(init, value);
	if (!is && now != init) {
		init = now;
		is = is_name_of(now, value);
	}
	if (is < 0)
		shunt_format(b->failure.text + len, sizeof(b->failure.text) - len,
			     "; functions' names: %s: %s", shunt_failed_call, shunt_error_text(is));
	if (is <= 0)
		return false;
	b->named[b->failed] = init;
	b->failure = (struct failure){.init = NULL};
	return true;
}

int shunt_set_keys(const struct shunt_setting *settings, size_t n)
{
	struct batch b = {.settings = settings, .n = n};
	size_t size = n * (2 * sizeof(struct shunt_key_change) + sizeof(b.named[0]) + sizeof(int));
	int ret;

	for (size_t i = 0; i < n; i++)
		if (!settings || !settings[i].key || !settings[i].value)
			return shunt_refuse(settings ? "shunt_set_keys: no name, or no value"
						     : "shunt_set_keys: no settings",
					    NULL);
	if (!n)
		return 0;
	b.changes = shunt_port_alloc(size);
	if (!b.changes)
		return shunt_tell_failure("shunt_set_keys", shunt_port_no_memory());
	memset(b.changes, 0, size);
	b.named = (void (**)(void))(b.changes + 2 * n);
	b.steps = (int *)(b.named + n);
	do
		ret = set_keys(&b, b.changes + n);
	while (ret == -EINVAL && is_functions_name(&b));
	if (b.failure.text[0])
		shunt_message("%s", b.failure.text);
	shunt_port_free(b.changes, size);
	return ret;
}

/* --------------------------------------------------------------- inspection */

/* The strings stand behind the copies, from @strings on. */
struct choice_copies {
	struct shunt_choice_info *infos;
	char *strings;
	size_t n, size; /* of all, in bytes */
};

static const char *module_of(const struct static_call_key *key)
{
	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct shunt_module *module = m->module;

		if (module && (const void *)key >= module->call_keys &&
		    (const void *)key < module->call_keys_end)
			return m->path;
	}
	return NULL;
}

static char *copy_string(struct choice_copies *copies, const char *string)
{
	size_t size = strlen(string) + 1;
	char *copy = memcpy(copies->strings, string, size);

	copies->strings += size;
	return copy;
}

static void copy_choice(struct choice_copies *copies, const struct shunt_choice *c)
{
	copies->infos[copies->n++] =
		(struct shunt_choice_info){.key = copy_string(copies, c->key->name),
					   .module = module_of(c->key),
					   .name = copy_string(copies, c->name),
					   .func = (void *)(uintptr_t)c->func};
}

/* Update lock held. False: no memory. */
static bool copy_choices(struct choice_copies *copies)
{
	size_t n = 0;

	for (const struct shunt_choice *c = choices; c; c = c->next, n++)
		copies->size +=
			sizeof(copies->infos[0]) + strlen(c->key->name) + strlen(c->name) + 2;
	if (!n)
		return true;
	copies->infos = shunt_port_alloc(copies->size);
	if (!copies->infos)
		return false;
	copies->strings = (char *)(copies->infos + n);
	for (const struct shunt_choice *c = choices; c; c = c->next)
		copy_choice(copies, c);
	return true;
}

int shunt_for_each_choice(int (*fn)(const struct shunt_choice_info *info, void *arg), void *arg)
{
	struct choice_copies copies = {0};
	int ret = shunt_port_lock();
	bool is_copied;

	if (ret)
		return shunt_tell_failure("shunt_for_each_choice", ret);
	is_copied = copy_choices(&copies);
	shunt_port_unlock();
	if (!is_copied)
		return shunt_tell_failure("shunt_for_each_choice", shunt_port_no_memory());
	for (size_t i = 0; i < copies.n && !ret; i++)
		ret = fn(&copies.infos[i], arg);
	shunt_port_free(copies.infos, copies.size);
	return ret;
}
