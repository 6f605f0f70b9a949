#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doc/debate.html in a browser (headless Chromium), on a phone and on a desk: it asks the network for
nothing, is no wider than the screen, and each cell of the matrix unfolds to something that can be
read. Skipped where there is no Chromium."""
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
  document.documentElement.setAttribute("data-seen", JSON.stringify({
    cells: seen.length, bad: seen.filter(s => !s.inside || s.others || s.text < 40).length,
    width: document.documentElement.scrollWidth, screen: innerWidth,
    marks: cells.filter(c => c.querySelector("summary").offsetHeight > 0).length}));
});
</script>
"""


def browse(browser, path, size):
    run = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--window-size={size}", "--virtual-time-budget=10000", "--dump-dom", "file://" + path],
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
        for number, size in enumerate(("500,900", "1400,900"), 2):
            seen = browse(browser, copy, size)
            fine = bool(seen) and seen["cells"] == seen["marks"] == cells and not seen["bad"] and \
                seen["width"] <= seen["screen"]
            print("ok" if fine else "not ok", f"{number} - {size}: {cells} cells unfold: {seen}")
            good = good and fine
    print("1..3")
    return not good


sys.exit(main())
