/* SPDX-License-Identifier: MIT */
/* What is known of a module before it has a record (examine.c). */
#ifndef SHUNT_LINUX_EXAMINE_H
#define SHUNT_LINUX_EXAMINE_H

#include <shunt/module.h>
#include <shunt/port.h>

#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/module/image.h"
#include "linux/module/site_search.h"

/* A failure, reported once the lock is free. */
struct shunt_failure {
	struct shunt_report report;
	const char *call; /* the system call */
	int ret;
};

/* What is known of a module before it has a record. */
struct shunt_findings {
	const struct shunt_module *module;
	struct shunt_image image;
	bool is_placed;      /* image is filled in */
	bool is_mapped_file; /* image.path is the file that is mapped */
	struct shunt_site_search calls, branches;
	struct shunt_baked_table baked;
	bool makes_calls;    /* with why: has static calls, which are not known */
	bool has_baked_keys; /* and `shunt bake` has written direct calls into it */
	const char *why;     /* why the calls' sites are not known; NULL: they are */
	int why_error;
	const char *why_call; /* that failed with it, or NULL */
	bool no_branches;     /* the branches' sites are not known */
	const char *why_no_branches;
	int no_branches_error;
	struct shunt_vector
		folded;     /* struct shunt_static_key *: keys with tests that share a place */
	size_t others_keys; /* static keys that it tests and another libshunt has registered */
	struct shunt_failure calls_failure, branches_failure;
};

/* Nothing is known of its calls' sites, or its branches': @why, and the error that it is. */
void shunt_findings_no_calls(struct shunt_findings *f, const char *why, int error);
/* The same, of a file that cannot be read: shunt_failed_call says what has failed. */
void shunt_findings_unread(struct shunt_findings *f, const char *why, int error);
void shunt_findings_no_branches(struct shunt_findings *f, const char *why, int error);

/* What it has mapped; n 0: not known. */
struct shunt_segments shunt_findings_segments(const struct shunt_findings *f);

/* Find out. f->module, image and is_placed are filled in. Update lock not held. */
void shunt_examine_module(struct shunt_findings *f);

/*
 * Whether `shunt bake` has written direct calls of @module's keys into it, by the keys in memory:
 * whatever has become of the table, which is in the file alone.
 */
bool shunt_has_baked_keys(const struct shunt_module *module);

void shunt_findings_free(struct shunt_findings *f);

#endif
