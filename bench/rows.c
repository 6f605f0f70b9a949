/* SPDX-License-Identifier: MIT */
/*
 * From samples to rows: interleaved rounds, medians and spread, and ratios. A ratio is
 * the median of the ratios within each round, which a slow change of the machine's
 * speed leaves alone; only where the numbers of rounds differ is it that of the medians.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void sorted(double *to, const double *from, size_t n)
{
	memcpy(to, from, n * sizeof(*to));
	qsort(to, n, sizeof(*to), by_value);
}

static double middle(const double *sorted, size_t n)
{
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double bench_median(const double *v, size_t n)
{
	double s[BENCH_ROUNDS_MAX];

	sorted(s, v, n);
	return middle(s, n);
}

static double ratio(const struct bench_series *s, const struct bench_series *floor)
{
	double r[BENCH_ROUNDS_MAX];

	if (s->n != floor->n)
		return bench_median(s->v, s->n) / bench_median(floor->v, floor->n);
	for (size_t i = 0; i < s->n; i++)
		r[i] = s->v[i] / floor->v[i];
	return bench_median(r, s->n);
}

/* Rows move when there are more of them: a pointer to one is good until the next. */
static struct bench_row *new_row(struct bench *b, const char *group, const char *name)
{
	struct bench_row *row;

	if (b->nr_rows == b->max_rows) {
		size_t max = b->max_rows ? 2 * b->max_rows : 64;
		struct bench_row *rows = reallocarray(b->rows, max, sizeof(*rows));

		if (!rows) {
			perror("shunt bench");
			exit(1);
		}
		b->rows = rows;
		b->max_rows = max;
	}
	row = &b->rows[b->nr_rows++];
	*row = (struct bench_row){.group = group, .unit = ""};
	snprintf(row->name, sizeof(row->name), "%s", name);
	return row;
}

static void fill(struct bench_row *row, const char *unit, const double *sorted, size_t n)
{
	row->unit = unit;
	row->rounds = n;
	row->min = sorted[0];
	row->low = sorted[(n - 1) / 4];
	row->median = middle(sorted, n);
	row->high = sorted[n - 1 - (n - 1) / 4];
	row->max = sorted[n - 1];
}

void bench_add_samples(struct bench *b, const char *group, const char *unit, const char *name,
		       double *v, size_t n)
{
	struct bench_row *row = new_row(b, group, name);

	qsort(v, n, sizeof(*v), by_value);
	fill(row, unit, v, n);
	row->p99 = v[(n - 1) * 99 / 100];
}

struct bench_row *bench_add(struct bench *b, const char *group, const char *unit,
			    const struct bench_series *s, const struct bench_series *floor)
{
	struct bench_row *row = new_row(b, group, s->name);
	double v[BENCH_ROUNDS_MAX];

	sorted(v, s->v, s->n);
	fill(row, unit, v, s->n);
	if (floor) {
		row->ratio = ratio(s, floor);
		snprintf(row->ratio_to, sizeof(row->ratio_to), "%s", floor->name);
	}
	return row;
}

void bench_skip(struct bench *b, const char *group, const char *name, const char *why)
{
	struct bench_row *row = new_row(b, group, name);

	snprintf(row->why, sizeof(row->why), "%s", why);
}

void bench_run(struct bench *b, const char *group, const char *unit, const struct bench_case *cases,
	       size_t n, size_t rounds)
{
	struct bench_series *s = calloc(n, sizeof(*s));
	bool failed[BENCH_SERIES_MAX] = {false};

	for (size_t round = 0; s && round < rounds; round++) {
		/* Each case has its turn at being first. */
		for (size_t turn = 0; turn < n; turn++) {
			size_t i = (round + turn) % n;
			double sample = failed[i] ? -1 : cases[i].run(cases[i].arg);

			failed[i] = sample < 0;
			s[i].v[s[i].n++] = sample;
		}
	}
	for (size_t i = 0; s && i < n; i++) {
		bool has_floor = cases[i].floor >= 0 && !failed[cases[i].floor];

		snprintf(s[i].name, sizeof(s[i].name), "%s", cases[i].name);
		if (has_floor)
			snprintf(s[cases[i].floor].name, sizeof(s[i].name), "%s",
				 cases[cases[i].floor].name);
		if (!failed[i])
			bench_add(b, group, unit, &s[i], has_floor ? &s[cases[i].floor] : NULL);
		else
			bench_skip(b, group, cases[i].name, "failed");
		b->failed |= failed[i];
	}
	free(s);
}
