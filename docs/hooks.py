"What the documentation site holds: the front page, the notebooks with their outputs, the results, and every symbol."
import configparser
import html
import importlib
import inspect
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from urllib.parse import unquote

import nbformat
from latex2mathml.converter import convert
from markdown.extensions.toc import slugify
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

from dark.core.docstrings import comments_of

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = configparser.ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
REPOSITORY = f"{SETTINGS['DEFAULT']['git_url']}/blob/{SETTINGS['DEFAULT']['branch']}"
OPENING = ("nbs/explore.ipynb", "nbs/tutorial.ipynb")  # read first
GUIDES = ("CONTRIBUTING.md", "data/README.md", "data/devices/README.md", "data/reference/README.md")
STATIC = ("figures", "data/reference")
EXCERPTS = ("nbs", "figures")  # homes of pages of which a library notebook shows a part, with the links of that page
SHIM = "https://unpkg.com/iframe-worker/shim"
DEAD = []  # links that lead nowhere, a line each


def found(folder, pattern) -> list:
    "Files of a folder in reading order, from the root."
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).glob(pattern))
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def chapters() -> dict:
    "Chapter -> its notebooks, both from the root."
    return {folder: books for folder in found("nbs/lib", "*") if (books := found(folder, "*.ipynb"))}


def results() -> list:
    "Tables as pages, and captions: the claims, then each profile's."
    return ["figures/claims.md", *(path for path in found("figures", "*/*.md") if "/smoke/" not in path)]


def page_of(path) -> str:
    "Where the page of a file lies in the site."
    moved = {"README.md": "index.md", "nbs/index.ipynb": "index.md"}
    return moved[path] if path in moved else re.sub(r"\.ipynb$", ".md", path).replace("README.md", "index.md")


def guides() -> dict:
    "Chapter -> what lives there, from the table in CONTRIBUTING.md."
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\d_\w+)` \| `[^`]+` \| ([^|]+) \|", text, flags=re.M))


def first_words(path) -> tuple:
    "Title and summary of a notebook: its first heading, and the line below it."
    cells = nbformat.read(ROOT / path, 4).cells
    text = next(cell.source for cell in cells if cell.cell_type == "markdown")
    title, *rest = [line for line in text.splitlines() if line.strip()]
    return title.lstrip("# "), (rest[0].lstrip("> ") if rest else "")


def chapter_page(folder, books) -> str:
    "A chapter: what lives there, and its sections."
    name = folder.rpartition("/")[2]
    lines = [f"# {name[0]} {name[2:]}", "", guides()[name] + ".", "", "| section | what it does |", "| --- | --- |"]
    for book in books:
        title, summary = first_words(book)
        lines.append(f"| [{title}]({page_of(book).rpartition('/')[2]}) | {summary} |")
    return "\n".join(lines)


def readable(notebook):
    "A notebook without what only the tools read."
    kept = [cell for cell in notebook.cells if cell.cell_type != "code" or cell.source.strip()
            and not re.match(r"#\|\s*(hide|default_exp)\b", cell.source)]
    for cell in kept:
        if cell.cell_type == "code":
            cell.source = re.sub(r"(?m)^#\|.*\n?", "", cell.source)
    notebook.cells, notebook.metadata.language_info = kept, {"name": "python"}  # which cleaning takes away
    return notebook


def rendered(path) -> tuple:
    "Markdown of a notebook, and the pictures that it shows: name -> bytes."
    notebook = readable(nbformat.read(ROOT / path, 4))
    stem = Path(path).stem
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": stem, "output_files_dir": f"{stem}_files"})
    return text, {join(dirname(path), name): content for name, content in resources["outputs"].items()}


def result_page(path) -> str:
    "A table or a caption as the repository has it, under the title of the notebook that makes it."
    text = (ROOT / path).read_text(encoding="utf-8")
    if path == "figures/claims.md":  # which has a title of its own
        return text
    [book] = found("nbs/paper", f"{Path(path).name[:2]}_*.ipynb")
    what = f"{path.split('/')[1]}{', caption' * path.endswith('.caption.md')}"
    link = f"[{Path(book).stem}]({relpath(book, dirname(path))})"
    return f"# {first_words(book)[0]} ({what})\n\nMade by {link}.\n\n{text}"


def made_by(path) -> str:
    "What a stage has made, as Markdown: its figures, and the pages of its tables."
    stem, parts = Path(path).stem, []
    for table in found("figures", f"*/{stem}.*"):
        if "/smoke/" in table:
            continue
        link = relpath(table, dirname(path))
        if table.endswith(".png"):
            parts.append(f"![{stem}]({link})")
        elif table.endswith((".pdf", ".csv")) or table.endswith(".md") and not table.endswith(".caption.md"):
            parts.append(f"[{table}]({link})")
    return "\n\n".join(["", "## What it made", *parts]) if parts else ""


def cell_text(value) -> str:
    "Text that a cell of a Markdown table can hold."
    text = html.escape(" ".join(str(value).split()), quote=False)
    return text.translate({ord(mark): f"&#{ord(mark)};" for mark in "|*["})


def parameters(thing) -> list:
    "Rows of the table of a symbol: name, type, default, comment."
    said, signature = comments_of(thing), inspect.signature(thing)
    rows = []
    for name, p in signature.parameters.items():
        if name not in ("self", "cls"):
            kind = "" if p.annotation is p.empty else f"`{inspect.formatannotation(p.annotation)}`"
            default = "" if p.default is p.empty else f"`{p.default!r}`"
            rows.append((name, kind, default, said[name] if name in said else ""))
    if "return" in said or signature.return_annotation is not signature.empty:
        kind = signature.return_annotation
        kind = "" if kind is signature.empty or kind is None else f"`{inspect.formatannotation(kind)}`"
        rows.append(("*returns*", kind, "", said["return"] if "return" in said else ""))
    return rows


def symbol_text(name, thing, anchor) -> list:
    "A symbol: heading, signature, summary, parameters."
    lines = ["", f"### {name} {{#{anchor}}}", ""]
    if not callable(thing):
        shown = repr(thing)
        return [*lines, "```python", f"{name} = {shown if len(shown) < 200 else f'{shown[:200]} ...'}", "```"]
    try:
        signature = str(inspect.signature(thing))
    except ValueError:  # built without one, such as an exception
        return [*lines, inspect.getdoc(thing) or ""]
    summary = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("[", "&#91;")
    lines += ["```python", f"{name}{signature}", "```", "", summary, ""]
    if rows := parameters(thing):
        lines += ["| parameter | type | default | what |", "| --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(cell if cell[:1] in "`*" and cell else cell_text(cell) for cell in row) + " |"
                  for row in rows]
    return lines


def symbols(module) -> list:
    "What a module exports: (name, thing), methods after their class."
    found = []
    for name in module.__all__:
        thing = getattr(module, name)
        found.append((name, thing))
        if inspect.isclass(thing):
            found += [(f"{name}.{key}", method) for key, method in vars(thing).items()
                      if inspect.isfunction(method) and not key.startswith("_")]
    return found


def module_of(path) -> str:
    "Module that a library notebook exports."
    return "dark." + re.search(r"#\|\s*default_exp (\S+)", (ROOT / path).read_text("utf-8"))[1].rstrip('",')


def anchor_of(name) -> str:
    return "api-" + name.replace(".", "-")


def api_text(module) -> str:
    "Every exported symbol of a module."
    lines = ["", f"## API of {module.__name__}"]
    for name, thing in symbols(module):
        lines += symbol_text(name, thing, anchor_of(name))
    return "\n".join(lines)


def api_page() -> str:
    "All exported symbols, by their names."
    rows = []
    for book in (book for books in chapters().values() for book in books):
        module = importlib.import_module(module_of(book))
        for name, thing in symbols(module):
            summary = (inspect.getdoc(thing) or "").split("\n\n")[0] if callable(thing) else type(thing).__name__
            rows.append((name.lower(), f"| [{name}]({page_of(book)}#{anchor_of(name)}) | {module.__name__} | "
                                       f"{cell_text(summary)} |"))
    return "\n".join(["# API", "", "Every exported symbol. Its page has its signature and what each parameter is.", "",
                      "| symbol | module | what it is |", "| --- | --- | --- |", *(row for _, row in sorted(rows))])


def on_config(config):
    "The order in which a reader goes through it."
    pages = {f"{folder[8]} {folder[10:]}": [f"{folder}/index.md", *map(page_of, books)]
             for folder, books in chapters().items()}
    config.nav = [
        {"Start": "index.md"},
        {"Try": [page_of(path) for path in OPENING]},
        {"Library": [{chapter: listed} for chapter, listed in pages.items()]},
        {"Experiments": [page_of(path) for path in found("nbs/paper", "*.ipynb")]},
        {"Results": [{Path(path).stem: path} if path.count("/") == 1 else
                     {f"{Path(path).stem} ({path.split('/')[1]})": path}
                     for path in results() if not path.endswith(".caption.md")]},
        {"Promises": "nbs/promises.md"},
        {"API": "api.md"},
        {"Contribute": [page_of(path) for path in GUIDES]},
    ]
    return config


def on_files(files, config):
    "Pages are made from the files of the repository, and lie where these lie, so that links between them hold."
    def add(uri, content):
        files.append(File.generated(config, uri, content=content))

    for path in ("README.md", *GUIDES):
        add(page_of(path), (ROOT / path).read_text(encoding="utf-8"))
    for path in results():
        add(path, result_page(path))
    for folder, books in chapters().items():
        add(f"{folder}/index.md", chapter_page(folder, books))
    library = [book for books in chapters().values() for book in books]
    for path in (*OPENING, *library, *found("nbs/paper", "*.ipynb"), "nbs/promises.ipynb"):
        text, pictures = rendered(path)
        if path in library:
            text += api_text(importlib.import_module(module_of(path)))
        add(page_of(path), text + (made_by(path) if path.startswith("nbs/paper") else ""))
        for name, content in pictures.items():
            add(name, content)
    add("api.md", api_page())
    for path in (path for folder in STATIC for path in found(folder, "**/*.*")):
        if (ROOT / path).is_file() and not path.endswith(".md") and "/smoke/" not in path:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_post_page(output, page, config):
    "The search comes with the site; the theme would load a part of it from the network."
    return output.replace(SHIM, relpath("iframe-worker.js", dirname(page.file.dest_uri) or "."))


def on_post_build(config):
    "PluginError for links that lead nowhere, all of them at once."
    if DEAD:
        raise PluginError("\n".join([*DEAD, "mend these links where they are written"]))


def on_page_markdown(markdown, page, config, files):
    "Folded parts are Markdown inside, as on GitHub."
    return re.sub(r"<details( open)?>", r'<details\1 markdown="1">', markdown)


def math(match) -> str:
    "MathML of a formula, which needs no script."
    tex = html.unescape(match[2]).strip()
    return convert(tex[2:-2], display="block" if tex.startswith(r"\[") else "inline")


def on_page_content(content, page, config, files):
    "Formulas, and links: to the page of a file, else to the file, else to the repository."
    content = re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', math, content, flags=re.S)
    here = dirname(page.file.dest_uri)

    def lead(match):
        tag, link = match.groups()
        target, hash, anchor = html.unescape(link).partition("#")
        if re.match(r"[a-z]+:", target):
            return match[0]
        if not anchor.startswith("api-"):
            anchor = slugify(unquote(anchor), "-")  # JupyterLab keeps capitals and marks
        if not target:
            return f'{tag}"{hash}{anchor}"'
        for base in (here, *(EXCERPTS if here.startswith("nbs/lib/") else ())):
            path = normpath(join(base, target))
            known = files.src_uris.get(page_of(path)) or files.src_uris.get(re.sub(r"\.html$", ".md", path))
            if known is not None:
                return f'{tag}"{relpath(known.dest_uri, here or ".")}{hash}{anchor}"'
            if (ROOT / path).exists():
                return f'{tag}"{REPOSITORY}/{path}"'
        DEAD.append(f"{page.file.src_uri} links to {link}, which is not there")
        return match[0]

    return re.sub(r'(<(?:a|img)\b[^>]*?\s(?:href|src)=)"([^"]*)"', lead, content)
