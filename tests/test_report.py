"The report of a profile: one file that needs nothing beside it, and that everybody can read."
import base64
import io
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from PIL import Image

from dark.core import paths
from dark.core.style import Colours, colour_contrast, colours
from dark.paper.report import UNMEASURED, css, page_html
from dark.recipe import recipes

PROFILES = ("phantom", "hc18", "speed", "sweeps")
PARTS = ["claims", "tables", "figures", "measurements"]
LIMIT = 3_000_000  # bytes of a mail that arrives everywhere


def report(profile):
    return (ROOT / "figures" / profile / "report.html").read_text(encoding="utf-8")


def is_link(target, soup):
    "A place on the page, or a notebook of the compendium."
    if target.startswith("#"):
        return soup.find(id=target[1:]) is not None
    notebook = re.fullmatch(r"\.\./\.\./(nbs/paper/\w+\.ipynb)", target)
    return notebook is not None and (ROOT / notebook[1]).is_file()


def outside_problems(soup):
    "What the page would ask of another file or server, and links that lead nowhere."
    found = [f"asks for {tag[name][:60]}" for name in ("src", "srcset", "data", "poster", "action")
             for tag in soup(**{name: True}) if not tag[name].startswith("data:image/png;base64,")]
    found += [f"leads to {tag['href']}" for tag in soup(href=True) if not is_link(tag["href"], soup)]
    found += [f"has a <{tag.name}>" for tag in soup(["script", "link", "iframe", "object", "embed"])]
    styles = " ".join([*(tag.get_text() for tag in soup("style")), *(tag["style"] for tag in soup(style=True))])
    return found + re.findall(r"url\(|@import", styles)


def number_problems(soup):
    "Numbers of the tables that no reader wants, and cells that say nothing."
    cells = [cell.get_text() for cell in soup.select("tbody td, tbody th")]
    found = [f"a cell says {cell!r}" for cell in cells if cell.strip() in UNMEASURED]
    for number in re.findall(r"(?<![\w.=])\d+(?:\.\d+)?(?!\w|\.\d)", "\n".join(cells)):
        whole, _, decimals = number.partition(".")
        if len(whole) > 4 or len((whole + decimals).lstrip("0")) > 6 or len(decimals) > 3 and not decimals.strip("0"):
            found.append(f"a cell has {number}")
    return found


def order_problems(soup):
    "Parts that are not in the order of a reader, measurements that lie open, a summary that lacks something."
    parts = [section["id"] for section in soup.select("main > section")]
    found = [] if parts == [part for part in PARTS if part in parts] else [f"the parts are {', '.join(parts)}"]
    folded = soup.select("#measurements > *")[1:]
    found += [f"{tag.name} is not folded" for tag in folded if tag.name != "details" or tag.has_attr("open")]
    heads = [tag.get_text() for tag in soup.select("header dt")]
    wanted = ("Date of the code", "Results of commit", "Made by", "Time and machine", "Packages")
    return found + [f"the summary lacks {head}" for head in wanted if head not in heads]


def heading_problems(soup):
    "Headings and language that a reader who hears the page finds the way by."
    levels = [int(tag.name[1]) for tag in soup(re.compile("^h[1-6]$"))]
    found = [f"h{one} is followed by h{two}" for one, two in zip(levels, levels[1:]) if two > one + 1]
    found += [] if levels.count(1) == 1 and levels[0] == 1 else ["not one h1, first"]
    found += [] if soup.html.has_attr("lang") and soup.html["lang"] == "en" else ["no language"]
    found += [] if soup.title and soup.title.get_text().strip() else ["no title"]
    ids = [tag["id"] for tag in soup(id=True)]
    return found + [f"{name} is there twice" for name in set(ids) if ids.count(name) > 1]


def table_problems(soup):
    "Tables without a caption, a box to move in, or headings that say what they are of."
    found = []
    for table in soup("table"):
        name = table.caption.get_text() if table.caption else "a table without caption"
        found += [] if table.caption else [name]
        found += [] if name.strip() else ["an empty caption"]
        found += [] if table.parent.has_attr("class") and "scroll" in table.parent["class"] else [f"{name}: no box"]
        found += [] if len(table("th")) == len(table("th", scope=["col", "row"])) else [f"{name}: th without scope"]
        found += [] if all(row.find("th", scope="row") for row in table.tbody("tr")) else [f"{name}: rows without name"]
    return found


def picture_problems(soup, folder: Path):
    "Pictures without a caption, whose text does not say what is seen, or that are too large or cannot be read."
    found = []
    for image in soup("img"):
        alt, caption = image["alt"] if image.has_attr("alt") else "", image.find_parent("figure").figcaption
        told = " ".join(caption.get_text().split()) if caption else ""
        # Numbers may be grouped in the caption, and Markdown's signs are gone.
        if len(alt) < 40 or not re.sub(r"\W", "", told).startswith(re.sub(r"\W", "", alt)):
            found.append(f"a picture is called {alt!r}")
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as picture:
            found += [] if picture.format == "PNG" and picture.width <= 1440 else [f"{alt}: {picture.size}"]
    drawn = len(list(folder.glob("*.png")))
    return found + ([] if drawn == len(soup("img")) else [f"{len(soup('img'))} of {drawn} pictures"])


def themes(text):
    "Colours by name: in light and in dark surroundings."
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    return [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in (light, dark)]


def contrast_problems(text):
    "Text that stands out too little, in light or in dark surroundings."
    return [f"--{name} on --{ground}: {colour_contrast(theme[name], theme[ground]):.2f}" for theme in themes(text)
            for name in ("ink", "muted", "link") for ground in ("paper", "shade")
            if colour_contrast(theme[name], theme[ground]) < 4.5]


def problems(page, folder):
    soup = BeautifulSoup(page, "html.parser")
    return [*outside_problems(soup), *number_problems(soup), *order_problems(soup), *heading_problems(soup),
            *table_problems(soup), *picture_problems(soup, folder), *contrast_problems(soup.style.get_text())]


@pytest.mark.parametrize("profile", PROFILES)
def test_shipped_report(profile):
    page = report(profile)
    assert problems(page, ROOT / "figures" / profile) == [] and len(page.encode()) < LIMIT
    assert 'name="viewport" content="width=device-width' in page and "stale" not in page and str(ROOT) not in page


@pytest.fixture
def made(tmp_path, monkeypatch):
    "A page of two stages, and its folder."
    monkeypatch.setattr(paths, "figures", tmp_path)
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "47_speed.md").write_text("| what | time |\n| --- | --- |\n| toys | 0.02 |\n")
    (folder / "47_speed.caption.md").write_text("Milliseconds of 970929 toys over their size, medians of 5 rounds.")
    Image.new("RGB", (2000, 500)).save(folder / "47_speed.png")
    (folder / "90_claims.csv").write_text("id,ours\nC1,0.5555555555555556\nC2,970929.000\nC3,\n")
    machine = {"cores": 2, "cpu": "C", "platform": "P", "python": "3", "versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps({"total_seconds": 9, "seconds": {"47_speed": 9}, "endings": {},
                                                 "commits": {"47_speed": "1a of 2026-01-01"}, "environment": machine}))
    return page_html("toy", [("47_speed", "Speed", "Done."), ("90_claims", "Claims", "Done.")]), folder


def test_made_report(made):
    assert problems(*made) == []


@pytest.mark.parametrize("old, new, said", [
    ('src="data:', 'src="file:', "asks for file:image/png"),
    ("../../nbs/paper/47_speed.ipynb", "https://example.org", "leads to https://example.org"),
    ('href="#figures"', 'href="#pictures"', "leads to #pictures"),
    ("</main>", "<script>1</script></main>", "has a <script>"),
    ("<style>", "<style>@import 'a.css';", "@import"),
    (">0.02<", "><", "a cell says ''"),
    (">0.02<", ">nan<", "a cell says 'nan'"),
    (">0.02<", ">0.5555555<", "a cell has 0.5555555"),
    (">0.02<", ">970929<", "a cell has 970929"),
    (">0.02<", ">18.0000<", "a cell has 18.0000"),
    ('<section id="claims">', '<section id="measures">', "the parts are measures, figures, measurements"),
    ("<details id", "<details open id", "details is not folded"),
    ("<dt>Packages</dt>", "", "the summary lacks Packages"),
    ("<h2>Figures</h2>", "<h4>Figures</h4><h6>a</h6>", "h4 is followed by h6"),
    ("<h1>", "<h1>a</h1><h1>", "not one h1, first"),
    ('<html lang="en">', "<html>", "no language"),
    ("<title>", "<title></title><b>", "no title"),
    ('id="47_speed-figure"', 'id="47_speed"', "47_speed is there twice"),
    ('<div class="scroll" tabindex="0" role="group" aria-label="Claims">', "<div>", "Claims: no box"),
    ('scope="col"', "", "Claims: th without scope"),
    ('<th scope="row" class="word">C1</th>', "<td>C1</td>", "Claims: rows without name"),
    ('<caption class="again">Claims</caption>', "", "a table without caption"),
    ('<caption class="again">Claims</caption>', "<caption></caption>", "an empty caption"),
    ('alt="Milliseconds', 'alt="47_speed', "a picture is called '47_speed"),
    ('alt="', 'title="', "a picture is called ''"),
    ("<img", "<b", "0 of 1 pictures"),
    ("--muted: #57606a", "--muted: #8a939d", "--muted on --paper"),
    ("--link: #7cb7f5", "--link: #0b57a4", "--link on --paper"),
])
def test_the_rules_find(made, old, new, said):
    page, folder = made
    assert old in page
    assert any(said in problem for problem in problems(page.replace(old, new, 1), folder))


def test_contrast_of_colours():
    "Of text on the page as it is made now, and of what figures are drawn in, on white."
    assert contrast_problems(css) == []
    names = [*colours, *(name for name in recipes if name not in colours)]
    assert {name: colours[name] for name in names if colour_contrast(colours[name]) < 3} == {}
    assert [tint for tint in Colours.free if colour_contrast(tint) < 3] == []
