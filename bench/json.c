/* SPDX-License-Identifier: MIT */
/* The results as JSON, where libjansson was there when this was built. */
#include "bench.h"

#include <errno.h>

#ifdef BENCH_HAVE_JANSSON
#include <jansson.h>

static json_t *machine_json(const struct bench *b)
{
	struct bench_machine m;

	bench_see_machine(&m);
	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:b}", "cpu", m.cpu, "cpus",
			 m.cpus, "kernel", m.kernel, "compiler", m.compiler, "poke", m.poke,
			 "write", m.write, "sync", m.sync, "load_before", b->load_before,
			 "load_after", m.load, "quick", (int)b->quick);
}

static json_t *row_json(const struct bench_row *row)
{
	json_t *json;

	if (!row->rounds)
		return json_pack("{s:s, s:s, s:s}", "group", row->group, "name", row->name,
				 "skipped", row->why);
	json = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "group", row->group,
			 "name", row->name, "unit", row->unit, "rounds", (json_int_t)row->rounds,
			 "min", row->min, "low_quartile", row->low, "median", row->median,
			 "high_quartile", row->high, "max", row->max);
	if (row->ratio > 0) {
		json_object_set_new(json, "ratio", json_real(row->ratio));
		json_object_set_new(json, "ratio_to", json_string(row->ratio_to));
	}
	if (row->p99 > 0)
		json_object_set_new(json, "p99", json_real(row->p99));
	if (row->x > 0)
		json_object_set_new(json, "sites", json_real(row->x));
	return json;
}

int bench_write_json(const struct bench *b, const char *path)
{
	json_t *rows = json_array();
	json_t *root = json_pack("{s:i, s:o, s:o}", "version", 1, "machine", machine_json(b),
				 "rows", rows);
	int err;

	for (size_t i = 0; i < b->nr_rows; i++)
		json_array_append_new(rows, row_json(&b->rows[i]));
	errno = EIO;
	err = json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) ? -errno : 0;
	json_decref(root);
	return err;
}

#else

int bench_write_json(const struct bench *b, const char *path)
{
	(void)b;
	(void)path;
	return -ENOTSUP;
}

#endif
