"The rules of the house as functions: each takes text or parsed code and returns a list of problems."
import ast
import re

SECTION = re.compile(r"(?:\d_([a-z]+)/)?\d\d_([a-z][a-z0-9_]*)")
MAX_CELL, MAX_MODULE, MAX_UNTESTED = 40, 400, 4
# The wall between chapters: who must not import what, though it comes earlier. None: no chapter of the package's own.
CLOSED = {"analyse": {"distil"}, "device": {"distil", "analyse"}, "artefacts": {"distil", "device"},
          "paper": {"distil", "device"}}
# What loads without torch.
LIGHT = re.compile(r"recipe|schedule|(artefacts|paper)\.\w+")

# Put together from pieces, so that this file is no hit itself.
MACHINE_PATH = re.compile("(?<![A-Za-z0-9_.~:/}])/" + "(home|root|work|Users|tmp|mnt|opt/conda)" + "/")
REGISTRY = re.compile("(" + "|".join(["py" + "pi[.]", "python" + "hosted[.]", "arti" + "factory", "anaconda" + "[.]org",
                                       "index" + "-url", "find" + "-links"]) + ")", re.I)
TEXT = {".py", ".ipynb", ".md", ".ini", ".toml", ".yml", ".yaml", ".csv", ".json", ".jsonl", ".html", ".cff", ""}


def section(path: str) -> str:
    "Module of a library notebook, from its path in nbs/lib; the chapter `method` is the package itself."
    chapter, stem = SECTION.fullmatch(path.removesuffix(".ipynb")).groups()
    return stem if chapter in (None, "method") else f"{chapter}.{stem}"


def imports(source: str, module: str) -> set:
    "Every module that the code of a module of the package imports, dotted; those of the package begin with dark."
    names, package = set(), ["dark", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            # `from dark.core import paths` names a module, `from dark.core.paths import root` lies in one.
            names |= {f"{whole}.{alias.name}" for alias in node.names} if whole.startswith("dark") else {whole}
    return names


def import_problems(module: str, source: str, sections: list) -> list:
    "Imports that do not go to an earlier section, or through a wall. Strictly earlier excludes circles."
    problems, chapter = [], module.rpartition(".")[0]
    closed = CLOSED[chapter] if chapter in CLOSED else set()
    for name in sorted(imports(source, module)):
        if not name.startswith("dark."):
            continue
        known = [s for s in sections if f"{name}.".startswith(f"dark.{s}.")]
        if not known:
            problems.append(f"{module} imports {name}, which is no section")
            continue
        other = max(known, key=len)
        if sections.index(other) >= sections.index(module):
            problems.append(f"{module} imports {other}, which is no earlier section")
        elif other.rpartition(".")[0] in closed:
            problems.append(f"{module} imports {other} through a wall")
        elif chapter == "artefacts" and other.rpartition(".")[0] == chapter:
            problems.append(f"{module} imports another artefact, {other}")
    return problems


def is_patch(node) -> bool:
    "A method that is added to a class, fastcore's way."
    return is_symbol(node) and any("patch" in ast.unparse(decorator) for decorator in node.decorator_list)


def defined_twice(sources: dict) -> list:
    "Public names that more than one module defines."
    homes = {}
    for module, source in sources.items():
        nodes = [node for node in ast.parse(source).body if not is_patch(node)]
        for name in {name for node in nodes for name in names(node) if not name.startswith("_")}:
            homes.setdefault(name, []).append(module)
    return [f"{name}: {', '.join(sorted(found))}" for name, found in sorted(homes.items()) if len(found) > 1]


def cell_sources(notebook: dict, kind: str) -> list:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def is_exported(source: str) -> bool:
    return re.match(r"#\|\s*export\b", source) is not None


def body(source: str) -> list:
    "Statements of a cell, magics left out; docstrings count."
    return ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", source)).body


def is_import(node) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def is_symbol(node) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def library_problems(module: str, notebook: dict) -> list:
    "What is wrong with the layout of a library notebook."
    code, prose = cell_sources(notebook, "code"), cell_sources(notebook, "markdown")
    problems = []
    if not code or code[0].strip() != f"#| default_exp {module}":
        problems.append(f"the first code cell is not `#| default_exp {module}`")
    if not prose or not re.match(rf"# {re.escape(module)}\n> \S", prose[0]):
        problems.append(f"the first text is not `# {module}` and a one-line blockquote")
    exported = [source for source in code if is_exported(source)]
    for source in exported:
        nodes = body(source)
        shown = source.splitlines()[1] if len(source.splitlines()) > 1 else source
        if sum(map(is_symbol, nodes)) > 1:
            problems.append(f"two symbols in one exported cell: {shown}")
        if any(map(is_import, nodes)) and not all(map(is_import, nodes)):
            problems.append(f"imports are not alone in their cell: {shown}")
        if len(source.splitlines()) > MAX_CELL:
            problems.append(f"an exported cell of {len(source.splitlines())} lines: {shown}")
    return problems + untested(code)


def untested(code: list) -> list:
    "Public symbols that no test of the notebook reaches, and long runs of exports without a test."
    nodes = [node for source in code if is_exported(source) for node in body(source)]
    exported = {name: ast.unparse(node) for node in nodes for name in names(node)}
    tests = [source for source in code if not is_exported(source)]
    reached, waiting = set(), tests
    while waiting:  # from the tests, through the symbols that they use, to those that these use
        words = set(re.findall(r"\w+", "\n".join(waiting)))
        waiting = [exported[name] for name in exported.keys() & words - reached]
        reached |= exported.keys() & words
    problems = [f"{node.name} is exported, and no test reaches it" for node in nodes
                if is_symbol(node) and node.name not in reached and not node.name.startswith("_")]
    run = []
    for source in [*code, ""]:
        if is_exported(source):
            run += [node.name for node in body(source) if is_symbol(node)]
        else:
            if len(run) > MAX_UNTESTED:
                problems.append(f"{len(run)} exports without a test between them: {', '.join(run)}")
            run = []
    return problems


def names(node) -> list:
    "What a statement defines."
    if is_symbol(node):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]


def is_literal(node) -> bool:
    try:
        ast.literal_eval(node)
        return True
    except ValueError:
        return False


def parameter_problems(notebook: dict) -> list:
    "What is wrong with the parameters cell of a pipeline notebook."
    tagged = [cell for cell in notebook["cells"] if "tags" in cell["metadata"] and
              "parameters" in cell["metadata"]["tags"]]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells are tagged parameters, not one"]
    problems, names = [], []
    for node in body("".join(tagged[0]["source"])):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and is_literal(node.value):
            names.append(ast.unparse(node.targets[0]))
        else:
            problems.append(f"the parameters cell holds more than literals: {ast.unparse(node)}")
    return problems + [f"{name} is no parameter" for name in ("profile", "profiles", "needs") if name not in names]


def locate_problems(notebook: dict) -> list:
    "Items that a pipeline notebook locates by name, and does not name in its parameter needs."
    nodes = [node for source in cell_sources(notebook, "code") for outer in body(source) for node in ast.walk(outer)]
    needs = [ast.literal_eval(node.value) for node in nodes
             if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "needs" and is_literal(node.value)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "locate"]
    return [f"locates {word.value}, which is not among its needs" for node in calls for word in node.args
            if isinstance(word, ast.Constant) and not any(word.value in names for names in needs)]


def pipeline_problems(notebook: dict) -> list:
    "What is wrong with a pipeline notebook: it loads, calls, shows, saves and asserts, and defines nothing."
    problems = parameter_problems(notebook) + locate_problems(notebook)
    if not any(re.match(r"# \S", text) for text in cell_sources(notebook, "markdown")[:1]):
        problems.append("the first text does not start with a title")
    for source in cell_sources(notebook, "code"):
        nodes = body(source)
        if any(map(is_import, nodes)) and not all(map(is_import, nodes)):
            problems.append(f"imports are not alone in their cell: {source.splitlines()[0]}")
        for node in (inner for outer in nodes for inner in ast.walk(outer)):
            problems += definition_problems(node)
    return problems


def definition_problems(node) -> list:
    "What one piece of syntax has no business doing in a pipeline notebook."
    if is_symbol(node):
        return [f"defines {node.name}: put it in the library"]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return [f"defines {ast.unparse(node.targets[0])}: put it in the library"]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("Path", "PurePath", "open"):
        return [f"makes a path: {ast.unparse(node)}"]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if re.search(r"^\S*/\S*\.[a-z0-9]{1,6}$", node.value):
            return [f"contains a path: {node.value}"]
    return []


def default_problems(source: str) -> list:
    "Silent defaults: `.get` with a default, bare `except`, and an `except` that only passes."
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            if len(node.args) + len(node.keywords) > 1:
                problems.append(f"line {node.lineno}: {ast.unparse(node)} hides a missing key")
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                problems.append(f"line {node.lineno}: bare except")
            if all(isinstance(n, ast.Pass) or ast.unparse(n) == "..." for n in node.body):
                problems.append(f"line {node.lineno}: an error is swallowed")
    return problems


def refusal_problems(source: str) -> list:
    "What a function `refuse_...` does beside raising: it returns something, or changes what is not its own."
    problems = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("refuse_")):
            continue
        own = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for inner in ast.walk(node):
            answers = isinstance(inner, ast.Return) and inner.value is not None
            if answers or isinstance(inner, ast.Yield | ast.YieldFrom):
                problems.append(f"{node.name}, line {inner.lineno}: returns something")
            if isinstance(inner, ast.Global | ast.Nonlocal):
                problems.append(f"{node.name}, line {inner.lineno}: names of others")
            if isinstance(inner, ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store | ast.Del):
                root = inner
                while isinstance(root, ast.Attribute | ast.Subscript):
                    root = root.value
                if not (isinstance(root, ast.Name) and root.id in own):
                    problems.append(f"{node.name}, line {inner.lineno}: changes {ast.unparse(inner)}")
    return problems


def text_problems(text: str) -> list:
    "Traces of one machine: absolute paths and package registries."
    found = [match for pattern in (MACHINE_PATH, REGISTRY) for match in pattern.finditer(text)]
    return [f"line {text.count(chr(10), 0, m.start()) + 1}: {m[0]}" for m in found]


def ignore_problems(text: str) -> list:
    "Unanchored patterns of .gitignore; negations and comments are fine."
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "/", "!/"))]


def output_problems(notebook: dict) -> list:
    "Errors that were saved with a notebook, and a kernel that papermill cannot run."
    problems = [f"a saved error: {output['ename']}" for cell in notebook["cells"] if cell["cell_type"] == "code"
                for output in cell["outputs"] if output["output_type"] == "error"]
    meta = notebook["metadata"]
    if "kernelspec" not in meta or "language" not in meta["kernelspec"] or meta["kernelspec"]["language"] != "python":
        problems.append("the kernelspec does not say language python")
    return problems


def unused_fields(fields: list, sources: list) -> list:
    "Names of options that no code reads as an attribute."
    read = {node.attr for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return [name for name in fields if name not in read]
