/* SPDX-License-Identifier: MIT */
/*
 * The plot: bars from zero for what a call, a branch and an update cost, for what a thread gets
 * done while its site is updated, and for how long an update holds it up, each with its quartiles;
 * lines, on logarithmic axes, for what an update costs a site by the number of sites.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <shunt/version.h>

enum { WIDTH = 860, LEFT = 290, RIGHT = 110, BAR = 24, TOP = 84, LINES_HEIGHT = 300, KEY = 220 };

/* An axis: values lo to hi over @from to @to pixels; from zero, or logarithmic. */
struct axis {
	double lo, hi, from, to;
	bool from_zero;
};

static double place(const struct axis *a, double value)
{
	if (a->from_zero)
		return a->from + (a->to - a->from) * value / a->hi;
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

/* Upright lines at some six round values of an axis that begins at zero. */
static void linear_grid(FILE *f, const struct axis *a, double start, double end)
{
	double step = pow(10, floor(log10(a->hi / 3)));

	while (a->hi / step > 8)
		step *= 2;
	for (double value = 0; value <= a->hi; value += step) {
		char label[16];

		snprintf(label, sizeof(label), "%g", value);
		rule(f, place(a, value), start, place(a, value), end);
		text(f, place(a, value), end + 16, "middle", label);
	}
}

/* ------------------------------------------------------------------- the bars */

/* Bars of the rows of one group that have a length. */
struct panel {
	const char *group, *title;
	const char *own; /* how the names of those begin that are set off */
	bool by_ratio;   /* lengths are ratios to a direct call, in ns; a line stands at 1 */
};

static const struct panel panels[] = {
	{"call",
	 "a call, in direct calls of the same rounds; shorter is better; dashed: 1, a direct call",
	 "static", true},
	{"branch", "a test of a flag, ns; shorter is better", "static", false},
	{"update, one thread", "one update, the only thread, us; shorter is better", "static",
	 false},
	{"update, int3", "one update by int3, us; shorter is better", "static", false},
	{"update, remap", "one update by remap, us; shorter is better", "static", false},
	{"update, flip", "one switch of a static key, us; shorter is better", "static", false},
	{"hammer", "a thread that calls without end, Mcall/s; longer is better", "auto", false},
	{"stall", "how long one update holds it up, us; shorter is better", "auto", false},
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

/* What @row's values are multiplied with for their lengths. */
static double scale(const struct bench_row *row, const struct panel *panel)
{
	return panel->by_ratio && row->ratio > 0 ? row->ratio / row->median : 1;
}

/* What stands behind a bar. */
static void label_bar(const struct bench_row *row, const struct panel *panel, char *label,
		      size_t size)
{
	const char *format = row->median < 99.5 ? "%.2f" : "%.0f";
	int n;

	if (panel->by_ratio && row->ratio > 0) {
		snprintf(label, size, "%.2f (%.2f ns)", row->ratio, row->median);
		return;
	}
	n = snprintf(label, size, format, row->median);
	if (row->ratio > 0)
		snprintf(label + n, size - (size_t)n, " (%.2f x)", row->ratio);
	else if (row->p99 > 0)
		snprintf(label + n, size - (size_t)n, " (p99 %.0f)", row->p99);
}

static void draw_bar(FILE *f, const struct bench_row *row, const struct panel *panel,
		     const struct axis *a, double y)
{
	bool is_own = !strncmp(row->name, panel->own, strlen(panel->own));
	double by = scale(row, panel);
	double end = place(a, row->median * by),
	       right = place(a, fmax(row->median * by, fmin(row->high * by, a->hi)));
	char label[48];

	fprintf(f, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>\n",
		is_own ? "own" : "other", LEFT, y + 3, end - LEFT, BAR - 6);
	fprintf(f, "<line class=\"quartiles\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
		place(a, row->low * by), y + BAR / 2., right, y + BAR / 2.);
	text(f, LEFT - 6, y + 16, "end", row->name);
	label_bar(row, panel, label, sizeof(label));
	text(f, right + 5, y + 16, "start", label);
}

/* Returns the y below them. */
static double bars(FILE *f, const struct bench *b, const struct panel *panel, double y)
{
	struct axis a = {0, 0, LEFT, WIDTH - RIGHT, true};
	double top = y;
	size_t n = count_bars(b, panel);

	if (!n)
		return y;
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_bar(&b->rows[i], panel))
			include(&a, b->rows[i].median * scale(&b->rows[i], panel));
	text(f, LEFT, y - 16, "start", panel->title);
	linear_grid(f, &a, y, y + (double)(n * BAR));
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_bar(&b->rows[i], panel)) {
			draw_bar(f, &b->rows[i], panel, &a, y);
			y += BAR;
		}
	if (panel->by_ratio)
		fprintf(f,
			"<line class=\"floor\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
			place(&a, 1), top, place(&a, 1), y);
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
	struct axis x = {1, 100000, 60, WIDTH - KEY - 20, false};
	struct axis y = {0, 0, top + LINES_HEIGHT, top, false};
	size_t nr = 0;

	for (size_t i = 0; i < b->nr_rows; i++)
		if (b->rows[i].line)
			include(&y, b->rows[i].median);
	if (y.lo <= 0)
		return;
	y.lo = pow(10, floor(log10(y.lo)));
	y.hi = pow(10, ceil(log10(y.hi)));
	text(f, x.from, top - 14, "start",
	     "an update, ns a site, by the number of sites; both axes logarithmic; lower is "
	     "better");
	text(f, x.to, top + LINES_HEIGHT + 32, "end", "sites");
	grid(f, &y, false, x.from, x.to);
	grid(f, &x, true, top, top + LINES_HEIGHT);
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_first_of_line(b, i))
			draw(f, b, b->rows[i].line, &x, &y, nr++);
}

/* What was measured, where and when; how the plot is to be read. */
static void heading(FILE *f)
{
	struct bench_machine m;
	char line[512], date[16] = "";
	time_t now = time(NULL);
	struct tm tm;

	bench_see_machine(&m);
	if (gmtime_r(&now, &tm))
		(void)strftime(date, sizeof(date), "%Y-%m-%d", &tm);
	snprintf(line, sizeof(line), "shunt bench %d.%d.%d, %s: %s, %d CPUs, Linux %s, %s",
		 SHUNT_VERSION_MAJOR, SHUNT_VERSION_MINOR, SHUNT_VERSION_PATCH, date, m.cpu, m.cpus,
		 m.kernel, m.compiler);
	text(f, 20, 20, "start", line);
	text(f, 20, 38, "start",
	     "bars: medians, blue is Shunt's, grey what it is compared with; lines on them: from "
	     "the "
	     "lower to the upper quartile");
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
		"<style>text{fill:#1f2328}.grid{stroke:#ddd}.own{fill:#0b62a4}.other{fill:#aaa}"
		".quartiles{stroke:#57606a}.floor{stroke:#cf222e;stroke-dasharray:4 3}"
		"@media "
		"(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.own{fill:#"
		"4493f8}"
		".other{fill:#6e7681}.quartiles{stroke:#e6edf3}}</style>\n",
		WIDTH, height);
	heading(f);
	for (size_t i = 0; i < PANELS; i++)
		top = bars(f, b, &panels[i], top);
	lines(f, b, top);
	fprintf(f, "</svg>\n");
	errno = EIO;
	return fclose(f) ? -errno : 0;
}
