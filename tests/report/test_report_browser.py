"""The report in a real browser: on phone and desktop, light and dark, seen and by the keyboard."""

import pytest

from browser import MISSING, Browser, find_browser
from kernelkit.report import writing as report
from saved_run import write_photos, write_run

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)
LOOKS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]

BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"

# Elements that stick out of the page, but for those in a part that scrolls by itself.
STICKING_OUT = """[...document.body.querySelectorAll('*')].filter(e => {
  if (e.closest('.scroll, nav, .skip') || e.closest('svg') && e.tagName !== 'svg') return false;
  const box = e.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.outerHTML.slice(0, 120))"""

# Texts whose contrast with what is behind them is below 4.5, after WCAG 2.2.
FAINT = """(() => {
  const numbers = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, below) => {
    const a = top[3] ?? 1;
    return [0, 1, 2].map(i => a * top[i] + (1 - a) * below[i]);
  };
  const behind = e => {
    if (!e) return numbers(getComputedStyle(document.body).backgroundColor).slice(0, 3);
    return over(numbers(getComputedStyle(e).backgroundColor), behind(e.parentElement));
  };
  const light = c => {
    const [r, g, b] = c.map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, style = getComputedStyle(e);
    if (!texts.currentNode.data.trim() || e.closest('title, style') || !e.getClientRects().length)
      continue;
    seen += 1;
    const below = behind(e);
    const colour = over(numbers(e.closest('svg') ? style.fill : style.color), below);
    const [a, b] = [light(colour), light(below)].sort((x, y) => y - x);
    if (a / b < 4.5) found.push([texts.currentNode.data.trim().slice(0, 40), (a / b).toFixed(2)]);
  }
  return [seen, found];
})()"""

REACHABLE = """(() => {
  const all = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')];
  all.forEach((e, i) => e.dataset.stop = i);
  const scrolls = [...document.querySelectorAll('*')].filter(e =>
    /auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1 &&
    e.tabIndex < 0 && !e.querySelector('a, [tabindex="0"]'));
  return [all.filter(e => e.getClientRects().length).map(e => e.dataset.stop),
          scrolls.map(e => e.outerHTML.slice(0, 120))];
})()"""

STOP = """(() => {
  const e = document.activeElement, style = getComputedStyle(e);
  return [e.dataset.stop ?? '', style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 1,
          e.tagName === 'SUMMARY' && !e.parentElement.open];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run of the home competition's size, with something in every part."""
    folder = tmp_path_factory.mktemp("page")
    photos = write_photos(folder / "photos", 10, 20, 40, 12)
    photos.loc[[3, 25], "group"] = 900
    wrong = {row: (row // 20 + 1) % 10 for row in range(0, 200, 7)} | dict.fromkeys(range(6), 5)
    members = {"b3": wrong, "next": {}}
    write_run(
        folder / "run", classes=10, tests=6675, wrong=wrong, members=members, photos=photos,
        suspects=list(range(0, 100, 7)), val_accuracy_tta=0.7, stopped_by_time_limit=True,
    )  # fmt: skip
    report.write_report(folder / "run")
    return folder / "run" / "report.html"


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_is_broken_sticks_out_or_is_faint(browser, page, width, scheme):
    browser.open(page, width, scheme)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.images.length") > 100
    assert browser.evaluate(BROKEN) == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(STICKING_OUT) == []
    seen, faint = browser.evaluate(FAINT)
    assert seen > 1000
    assert faint == []
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 18, 20)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_confusion_matrix_of_ten_classes_fits_with_readable_heads(browser, tmp_path, width):
    names = [f"aston_martin_v8_vantage_{number}" for number in range(10)]
    wrong = {row: (row // 20 + 1) % 10 for row in range(0, 200, 7)}
    report.write_report(write_run(tmp_path, classes=10, names=names, wrong=wrong))
    browser.open(tmp_path / "report.html", width, "light")
    matrix = "document.querySelector('svg.matrix')"
    assert browser.evaluate(
        f"{matrix}.parentElement.scrollWidth <= {matrix}.parentElement.clientWidth"
    )
    names = browser.evaluate(
        f"[...{matrix}.querySelectorAll('text')].filter(e => e.textContent.startsWith('v8_'))"
        ".map(e => e.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert len(names) == 20  # of rows and of columns, whole
    assert all(max(sides) > 45 and min(sides) >= 9 for sides in names)


def test_the_confusion_matrix_of_thirty_classes_fits_a_desktop(browser, tmp_path):
    report.write_report(write_run(tmp_path, classes=30, wrong={0: 1, 25: 3}))
    browser.open(tmp_path / "report.html", 1280, "light")
    box = "document.querySelector('svg.matrix').parentElement"
    assert browser.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_keyboard_reaches_and_shows_everything(browser, page, width):
    browser.open(page, width, "light")
    wanted, scrolling_unreached = browser.evaluate(REACHABLE)
    assert scrolling_unreached == []
    assert len(wanted) > 20
    reached = set()
    for _ in range(4 * len(wanted)):
        browser.press("Tab", 9)
        stop, outlined, closed = browser.evaluate(STOP)
        if stop in reached or (reached and not stop):  # round, or out of the page
            break
        reached.add(stop)
        assert outlined, stop
        if closed:  # a person opens what is folded, and goes on inside
            browser.evaluate("document.activeElement.click()")
    wanted, _ = browser.evaluate(
        "[[...document.querySelectorAll('[data-stop]')].filter(e => e.getClientRects().length)"
        ".map(e => e.dataset.stop), 0]"
    )
    assert reached >= set(wanted)
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_print_shows_the_page_without_its_navigation(browser, page):
    browser.open(page, 800, "dark")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    white = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert white == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="")
