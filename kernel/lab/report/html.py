# SPDX-License-Identifier: MIT
"""doc/debate.html: the matrix as a picture whose cells unfold, and the text below. One file."""
import html as escape
import re

from . import page as text

STYLE = """
:root { color-scheme: light dark; --ok: #2e7d4f; --bad: #b3372f; --none: #8a8f98; --line: #8884 }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem }
h1 { line-height: 1.2 }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top }
pre { background: #8881; overflow-x: auto; padding: .6rem }
code { font-family: ui-monospace, monospace; font-size: .9em }
.matrix td, .matrix th { padding: 0; border: 2px solid Canvas; text-align: center }
.matrix thead th { font-size: .8rem; font-weight: 600; padding: .3rem .2rem; vertical-align: bottom }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg) }
.matrix tbody th { background: Canvas; left: 0; padding: 0 .5rem 0 0; position: sticky; text-align: left;
  white-space: nowrap; z-index: 1 }
.matrix summary { color: #fff; cursor: pointer; list-style: none; min-width: 2.2rem; padding: .35rem .1rem }
.matrix summary::-webkit-details-marker { display: none }
.ok summary { background: var(--ok) } .bad summary { background: var(--bad) }
.none summary { background: var(--none) }
.matrix summary:focus-visible { outline: 3px solid Highlight }
.matrix details[open] summary { box-shadow: inset 0 0 0 3px CanvasText }
.cell { background: Canvas; border-top: 3px solid CanvasText; bottom: 0; box-shadow: 0 -4px 16px #0006; left: 0;
  max-height: 60vh; overflow: auto; padding: .8rem 1rem 1.2rem; position: fixed; right: 0; text-align: left;
  z-index: 2 }
.cell p { margin: .3rem 0 }
@media (max-width: 30rem) {
  pre { font-size: .75rem; white-space: pre-wrap }
  .matrix td, .matrix th { border-width: 1px }
  .matrix tbody th { font-size: .75rem; padding-right: .2rem }
  .matrix summary { font-size: .8rem; min-width: 1.5rem; padding: .35rem 0 }
}
"""
# What debate.md says of this page.
OF_THIS_PAGE = ("[debate.html](debate.html) is this\nmatrix as a picture that unfolds; the",
                "Each cell unfolds; the")
SIGNS = {"✓": "ok", "✗": "bad", "–": "none"}


def inline(line, base=""):
    """Markdown within a line."""
    line = escape.escape(line, quote=False)
    codes = []

    def keep(match):
        codes.append(match.group(1))
        return f"\0{len(codes) - 1}\0"

    line = re.sub(r"`([^`]*)`", keep, line)
    line = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", line)
    line = re.sub(r"\*([^*\s][^*]*)\*", r"<i>\1</i>", line)
    line = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", rf'<a href="{base}\2">\1</a>', line)
    line = re.sub(r"\[(L\d)\]", r'<a href="references.md#\1">[\1]</a>', line)
    line = re.sub(r"references\.md#L", "references.md#l", line)
    return re.sub(r"\0(\d+)\0", lambda m: f"<code>{codes[int(m.group(1))]}</code>", line)


def details(results, s, group):
    """What a cell of the matrix unfolds to."""
    yield f"<p><b>{s['id']}</b>: {escape.escape(group['title'])}</p>"
    for hazard in group["hazards"]:
        found = [c for c in text.of_group(results, s["id"], group) if c[0] == hazard["id"]]
        if not found:
            continue
        yield (f"<p><code>{hazard['id']}</code> {inline(hazard['text'])}:<br>"
               f"{inline(text.verdict_words(found))}</p>")
        for _, emulator, cell in found:
            if cell.verdict == "fails":
                command = text.replay(s["id"], hazard["id"], emulator, cell)
                yield f"<pre>{escape.escape(command)}</pre>"
                break


def picture(results, debate):
    yield '<div class="scroll"><table class="matrix"><thead><tr><th></th>'
    for group in debate["groups"]:
        yield f'<th scope="col"><span>{escape.escape(group["title"])}</span></th>'
    yield "</tr></thead><tbody>"
    for s in text.of_kind(debate, "scheme"):
        yield f'<tr><th scope="row"><a href="#{s["id"]}">{s["id"]}</a></th>'
        for group in debate["groups"]:
            mark = text.mark(text.of_group(results, s["id"], group))
            yield (f'<td class="{SIGNS[mark[0]]}"><details name="cell"><summary>{mark}</summary>'
                   f'<div class="cell">{"".join(details(results, s, group))}</div></details></td>')
        yield "</tr>"
    yield "</tbody></table></div>"


def table(rows):
    cells = [[c.strip() for c in row.strip("|").split(" | ")] for row in rows]
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{inline(c)}</th>" for c in cells[0]) + "</tr></thead><tbody>"
    for row in cells[2:]:
        yield "<tr>" + "".join(f"<td>{inline(c)}</td>" for c in row) + "</tr>"
    yield "</tbody></table></div>"


def heading(line):
    level, title = len(line) - len(line.lstrip("#")), line.lstrip("# ")
    anchor = re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
    return f'<h{level} id="{anchor}">{inline(title)}</h{level}>'


def blocks(markdown, results, debate):
    """What debate.md has, in HTML; its first table becomes the picture."""
    pictured = False
    for block in re.split(r"\n\n+", re.sub(r"<!--.*?-->\n", "", markdown)):
        lines = [line for line in block.split("\n") if line]
        if not lines or re.match(r"\[L\d\]: ", lines[0]):
            continue
        if lines[0].startswith("#"):
            yield heading(lines[0])
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("|"):
            yield from table(lines) if pictured else picture(results, debate)
            pictured = True
        elif lines[0] == "```" or lines[0].startswith("    "):
            body = [line for line in lines if line != "```"]
            yield "<pre>" + escape.escape("\n".join(line.removeprefix("    ") for line in body)
                                          if lines[0] != "```" else "\n".join(body)) + "</pre>"
        elif lines[0].startswith("- "):
            items = re.split(r"^- ", "\n".join(lines), flags=re.MULTILINE)[1:]
            yield "<ul>" + "".join(f"<li>{inline(i.strip())}</li>" for i in items) + "</ul>"
        else:
            yield f"<p>{inline(chr(10).join(lines))}</p>"


def page(results, debate, markdown):
    if OF_THIS_PAGE[0] not in markdown:
        raise ValueError("debate.md does not say what html.py replaces")
    body = "\n".join(blocks(markdown.replace(*OF_THIS_PAGE), results, debate))
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<!-- SPDX-License-Identifier: MIT. Made by script/ring0. -->\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>How to get a thread past an int3</title>\n<style>{STYLE}</style></head>\n"
            f"<body>\n{body}\n</body></html>\n")
