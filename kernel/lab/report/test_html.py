#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doc/debate.html in a browser (headless Chromium), on a phone and on a desk: it asks the network for
nothing, is no wider than the screen, nor is the matrix, and each cell of it unfolds to something that
can be read. Skipped where there is no Chromium."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
PAGE = os.path.join(TOP, "doc", "debate.html")
# Opens every cell, one after the other, and says what there is to be seen of it.
SCRIPT = """
<script>
window.addEventListener("load", () => {
  const cells = [...document.querySelectorAll(".matrix details")];
  const seen = cells.map(cell => {
    cell.open = true;
    const box = cell.querySelector(".cell").getBoundingClientRect();
    const others = cells.filter(c => c.open && c !== cell).length;
    const text = cell.querySelector(".cell").innerText;
    cell.open = false;
    return {inside: box.left >= 0 && box.right <= innerWidth + 1 && box.bottom <= innerHeight + 1 &&
                    box.height > 40, others, text: text.length};
  });
  const matrix = document.querySelector(".matrix").getBoundingClientRect();
  parent.postMessage(JSON.stringify({
    cells: seen.length, bad: seen.filter(s => !s.inside || s.others || s.text < 40).length,
    width: Math.max(document.documentElement.scrollWidth, matrix.right), screen: innerWidth,
    marks: cells.filter(c => c.querySelector("summary").offsetHeight > 0).length}), "*");
});
</script>
"""
# A browser's window is not as narrow as a phone; a frame is.
FRAME = """<!doctype html><script>
window.addEventListener("message", e => document.documentElement.setAttribute("data-seen", e.data));
</script><iframe src="page.html" style="border: 0; width: {}px; height: {}px"></iframe>
"""


def browse(browser, directory, size):
    frame = os.path.join(directory, "frame.html")
    with open(frame, "w", encoding="utf-8") as file:
        file.write(FRAME.format(*size))
    run = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom", "file://" + frame],
        capture_output=True, text=True, check=False, timeout=240)
    found = re.search(r'data-seen="([^"]*)"', run.stdout)
    return json.loads(found.group(1).replace("&quot;", '"')) if found else None


def main():
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or \
        shutil.which("google-chrome")
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    asks = re.findall(r'<(?:script|link|img|iframe)\b[^>]*|url\([^)]*\)|@import', text)
    print("ok" if not asks else "not ok", f"1 - the page asks for nothing: {asks[:3]}")
    if not browser:
        print("ok 2 - in a browser # SKIP no Chromium\n1..2")
        return bool(asks)
    good = not asks
    cells = text.count('<details name="cell">')
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "page.html")
        with open(copy, "w", encoding="utf-8") as file:
            file.write(text.replace("</body>", SCRIPT + "</body>"))
        for number, size in enumerate(((390, 844), (1280, 900)), 2):
            seen = browse(browser, directory, size)
            fine = bool(seen) and seen["cells"] == seen["marks"] == cells and not seen["bad"] and \
                seen["width"] <= seen["screen"] == size[0]
            print("ok" if fine else "not ok", f"{number} - {size}: {cells} cells unfold: {seen}")
            good = good and fine
        # The control: cells that cannot be seen on a narrow screen.
        with open(copy, "w", encoding="utf-8") as file:
            file.write(text.replace("</body>", SCRIPT + "</body>").replace(
                "</style>", ".matrix summary, .cell { min-width: 500px }</style>"))
        seen = browse(browser, directory, (390, 844))
        fine = bool(seen) and seen["width"] > 390 and seen["bad"]
        print("ok" if fine else "not ok", f"4 - control: cells that are too wide: {seen}")
        good = good and fine
    print("1..4")
    return not good


sys.exit(main())
