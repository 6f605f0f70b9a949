/* SPDX-License-Identifier: MIT */
/*
 * The plot: bars for what a call costs, for what a thread gets done while its site is updated,
 * and for how long an update holds it up; lines for what an update costs a site by the
 * number of sites. All on logarithmic axes.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 860, LEFT = 270, RIGHT = 110, BAR = 24, TOP = 40, LINES_HEIGHT = 300, KEY = 220 };

/* An axis: values lo to hi, powers of 10 or their thirds, over @from to @to pixels. */
struct axis {
	double lo, hi, from, to;
};

static double place(const struct axis *a, double value)
{
	return a->from + (a->to - a->from) * log(value / a->lo) / log(a->hi / a->lo);
}

static void include(struct axis *a, double value)
{
	if (a->lo <= 0 || value < a->lo)
		a->lo = value;
	if (value > a->hi)
		a->hi = value;
}

static void text(FILE *f, double x, double y, const char *anchor, const char *s)
{
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	for (; *s; s++) {
		if (*s == '<')
			fputs("&lt;", f);
		else if (*s == '&')
			fputs("&amp;", f);
		else
			fputc(*s, f);
	}
	fputs("</text>\n", f);
}

static void rule(FILE *f, double x1, double y1, double x2, double y2)
{
	fprintf(f, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x1,
		y1, x2, y2);
}

/* Grid lines at @a's powers of ten (and their doubles and fives where they are few). */
static void grid(FILE *f, const struct axis *a, bool upright, double start, double end)
{
	static const double steps[] = {1, 2, 5};
	size_t nr_steps = a->hi / a->lo < 200 ? 3 : 1;

	for (double decade = pow(10, floor(log10(a->lo))); decade <= a->hi; decade *= 10)
		for (size_t i = 0; i < nr_steps; i++) {
			double value = decade * steps[i], at = place(a, value);
			char label[16];

			if (value < a->lo * 0.999 || value > a->hi * 1.001)
				continue;
			snprintf(label, sizeof(label), "%g", value);
			if (upright) {
				rule(f, at, start, at, end);
				text(f, at, end + 16, "middle", label);
			} else {
				rule(f, start, at, end, at);
				text(f, start - 6, at + 4, "end", label);
			}
		}
}

/* ------------------------------------------------------------------- the bars */

/* Bars of the rows of one group that have a length. */
struct panel {
	const char *group, *title;
	const char *own; /* how the names of those begin that are set off */
};

static const struct panel panels[] = {
	{"call", "a call, ns", "static"},
	{"hammer", "a thread that calls without end, Mcall/s", "auto"},
	{"stall", "how long one update holds it up, us", "auto"},
};
enum { PANELS = sizeof(panels) / sizeof(panels[0]), BETWEEN = 60 };

static bool is_bar(const struct bench_row *row, const struct panel *panel)
{
	return row->rounds && row->median > 0 && !strcmp(row->group, panel->group);
}

static size_t count_bars(const struct bench *b, const struct panel *panel)
{
	size_t n = 0;

	for (size_t i = 0; i < b->nr_rows; i++)
		n += is_bar(&b->rows[i], panel);
	return n;
}

/* What stands behind a bar. */
static void label_bar(const struct bench_row *row, char *label, size_t size)
{
	const char *format = row->median < 99.5 ? "%.2f" : "%.0f";
	int n = snprintf(label, size, format, row->median);

	if (row->ratio > 0)
		snprintf(label + n, size - (size_t)n, " (%.2f x)", row->ratio);
	else if (row->p99 > 0)
		snprintf(label + n, size - (size_t)n, " (p99 %.0f)", row->p99);
}

static void draw_bar(FILE *f, const struct bench_row *row, const struct panel *panel,
		     const struct axis *a, double y)
{
	bool is_own = !strncmp(row->name, panel->own, strlen(panel->own));
	double end = place(a, row->median);
	char label[48];

	fprintf(f, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>\n",
		is_own ? "own" : "other", LEFT, y + 3, end - LEFT, BAR - 6);
	text(f, LEFT - 6, y + 16, "end", row->name);
	label_bar(row, label, sizeof(label));
	text(f, end + 5, y + 16, "start", label);
}

/* Returns the y below them. */
static double bars(FILE *f, const struct bench *b, const struct panel *panel, double y)
{
	struct axis a = {0, 0, LEFT, WIDTH - RIGHT};
	size_t n = count_bars(b, panel);

	if (!n)
		return y;
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_bar(&b->rows[i], panel))
			include(&a, b->rows[i].median);
	text(f, LEFT, y - 16, "start", panel->title);
	a.lo /= 2;
	a.hi *= 1.2;
	grid(f, &a, true, y, y + (double)(n * BAR));
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_bar(&b->rows[i], panel)) {
			draw_bar(f, &b->rows[i], panel, &a, y);
			y += BAR;
		}
	return y + BETWEEN;
}

/* ------------------------------------------------------------------ the lines */

static const char *const colours[] = {"#888888", "#bbbbbb", "#0b62a4", "#6fb0e0",
				      "#2a8a3e", "#86c995", "#b5482a", "#e0a088"};

/* One line of the plot, and its name in the key. Returns the number of points. */
static size_t draw(FILE *f, const struct bench *b, const char *line, const struct axis *x,
		   const struct axis *y, size_t nr)
{
	const char *colour = colours[nr % 8];
	double key = y->to + 12 + 18 * (double)nr;
	size_t n = 0;

	fprintf(f, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"", colour);
	for (size_t i = 0; i < b->nr_rows; i++)
		if (b->rows[i].line && !strcmp(b->rows[i].line, line)) {
			fprintf(f, "%.1f,%.1f ", place(x, b->rows[i].x),
				place(y, b->rows[i].median));
			n++;
		}
	fprintf(f, "\"/>\n<rect fill=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\"/>\n",
		colour, x->to + 14, key - 9);
	text(f, x->to + 28, key, "start", line);
	return n;
}

static bool is_first_of_line(const struct bench *b, size_t row)
{
	if (!b->rows[row].line)
		return false;
	for (size_t i = 0; i < row; i++)
		if (b->rows[i].line && !strcmp(b->rows[i].line, b->rows[row].line))
			return false;
	return true;
}

static void lines(FILE *f, const struct bench *b, double top)
{
	struct axis x = {1, 100000, 60, WIDTH - KEY - 20};
	struct axis y = {0, 0, top + LINES_HEIGHT, top};
	size_t nr = 0;

	for (size_t i = 0; i < b->nr_rows; i++)
		if (b->rows[i].line)
			include(&y, b->rows[i].median);
	if (y.lo <= 0)
		return;
	y.lo = pow(10, floor(log10(y.lo)));
	y.hi = pow(10, ceil(log10(y.hi)));
	text(f, x.from, top - 14, "start", "an update, ns a site");
	text(f, x.to, top + LINES_HEIGHT + 32, "end", "sites");
	grid(f, &y, false, x.from, x.to);
	grid(f, &x, true, top, top + LINES_HEIGHT);
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_first_of_line(b, i))
			draw(f, b, b->rows[i].line, &x, &y, nr++);
}

int bench_write_svg(const struct bench *b, const char *path)
{
	FILE *f = fopen(path, "we");
	double top = TOP, height = TOP + LINES_HEIGHT + 50;

	if (!f)
		return -errno;
	for (size_t i = 0; i < PANELS; i++)
		height += (double)(count_bars(b, &panels[i]) * BAR) + BETWEEN;
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<style>.grid{stroke:#ddd}.own{fill:#0b62a4}.other{fill:#aaa}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		WIDTH, height);
	for (size_t i = 0; i < PANELS; i++)
		top = bars(f, b, &panels[i], top);
	lines(f, b, top);
	fprintf(f, "</svg>\n");
	errno = EIO;
	return fclose(f) ? -errno : 0;
}
