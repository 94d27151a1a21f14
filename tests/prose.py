"""Measure the prose of the repository: sentences, and the share of them that carry a free relative.

A sentence carries one when a word of `RELATIVES` stands in it, unless it is a question, which ends with a question
mark. Nothing else is exempt. Texts of three words or fewer are not prose and are not measured. A text without a full
stop (label, heading, table cell) is measured only when it carries a free relative, so that labels never dilute a share.

    python -m tests.prose                      the shares of code, docs and pages
    python -m tests.prose --list [PATH ...]    every sentence that carries one, as file:line and text
    python -m tests.prose --docstrings         the shares of public docstrings that give errors, units, shapes, source
"""

import argparse
import ast
import html
import io
import re
import sys
import tokenize
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELATIVES = re.compile(r"\b(what|whatever|who|whom|whoever|whose)\b", re.IGNORECASE)
QUESTION = re.compile(r"\?[\"'”’)*_\]]*$")
FULL = re.compile(r"[.!?][\"'”’)*_\]]*$")
SENTENCE = re.compile(r"[^\0]+?(?:[.!?](?=[\s\0])|\0|\Z)", re.DOTALL)
DIRECTIVE = re.compile(r"#\s*(type:|noqa|fmt:|pragma|pylint|mypy|ruff|djlint|!|---)")
STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
WORDS_MIN = 4
KINDS = ("code", "docs", "pages")

SKIPPED_FOLDERS = {"var", "build", "staticfiles", "node_modules", "__pycache__"}
NOT_PRODUCT = {"tests", "benchmarks", "docs"}

BREAK = "\0"  # parts sentences inside a text that keeps its line numbers


@dataclass(frozen=True)
class Sentence:
    """A sentence, its place, and the row of the report that counts it."""

    kind: str
    part: str
    path: str
    line: int
    text: str

    @property
    def relative(self) -> bool:
        """True when the sentence carries a free relative and is no question."""
        return bool(RELATIVES.search(self.text)) and not QUESTION.search(self.text)

    @property
    def measured(self) -> bool:
        """True for a full sentence, and for a fragment that carries a free relative."""
        return self.relative or bool(FULL.search(self.text))


# ----------------------------------------------------------------------------------------------------- texts of files


def split(text: str, line: int = 1) -> Iterator[tuple[int, str]]:
    """Split a text into sentences, each with the number of the line on which it begins."""
    for match in SENTENCE.finditer(text):
        raw = match.group()
        words = raw.replace(BREAK, " ").split()
        if sum(any(letter.isalpha() for letter in word) for word in words) >= WORDS_MIN:
            before = match.start() + len(raw) - len(raw.lstrip())
            yield line + text.count("\n", 0, before), " ".join(words)


def by_paragraph(text: str) -> str:
    """Mark the ends of the paragraphs of a text."""
    return re.sub(r"\n(?=[ \t]*\n)", "\n" + BREAK, text)


def files(*suffixes: str) -> Iterator[Path]:
    """List the repository's files with these suffixes, relative to its root and in order."""
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if path.suffix in suffixes and not any(p.startswith(".") or p in SKIPPED_FOLDERS for p in relative.parts[:-1]):
            yield relative


def read(path: Path) -> str:
    """Read a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def parsed(source: str) -> ast.Module:
    """Parse a module, once for all its readers."""
    return ast.parse(source)


def docstring_nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """List the documented modules, classes and functions of a tree, each with its docstring's node."""
    # Expressions hold no docstring, and most nodes are in expressions.
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, STATEMENTS))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield node, value


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences of a module's docstrings."""
    for _, node in docstring_nodes(parsed(source)):
        yield from split(by_paragraph(str(node.value)), node.lineno)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences of a module's comments; lines of one block are read together."""
    block: list[str] = []
    start = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        alone = not token.line[: token.start[1]].strip()
        if not (block and alone and token.start == (start[0] + len(block), start[1])):
            yield from split("\n".join(block), start[0])
            block, start = [], token.start
        block.append(token.string.lstrip("#"))
        if not alone:
            yield from split("\n".join(block), start[0])
            block = []
    yield from split("\n".join(block), start[0])


def sql_comments(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences of the `--` comments of an SQL script; lines of one block are read together."""
    for match in re.finditer(r"(?:^[ \t]*--[^\n]*\n?)+|--[^\n]*", source, re.MULTILINE):
        yield from split(re.sub(r"--+", "", match.group()), 1 + source.count("\n", 0, match.start()))


# --------------------------------------------------------------------------------------------------- texts for people

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE \w+ (AS \w+ )?SET|DELETE FROM|CREATE|ALTER|GRANT|REVOKE|RAISE|"
    r"RETURN (NEW|OLD|NULL)|BEGIN)\b"
)
RAISED = re.compile(r"\bRAISE (?:EXCEPTION )?'((?:[^']|'')+)'|\bMESSAGE = '((?:[^']|'')+)'")


def raised(sql: str) -> Iterator[tuple[int, str]]:
    """List the sentences that an SQL text raises as errors."""
    for match in RAISED.finditer(sql):
        yield from split(match.group(1) or match.group(2), 1 + sql.count("\n", 0, match.start()))


def strings(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences in a module's string literals: messages, refusals, labels, help texts.

    Docstrings and SQL are no such text; the errors that SQL raises are. A value inside an f-string reads as one word.
    """
    tree = parsed(source)
    seen = {id(node) for _, node in docstring_nodes(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            seen.update(id(value) for value in node.values)
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen:
            text = node.value
        else:
            continue
        found = raised(text) if SQL.search(text) else template(text)
        yield from ((node.lineno, sentence) for _, sentence in found)


INLINE = r"a|abbr|b|bdi|cite|code|em|i|kbd|mark|q|s|small|span|strong|sub|sup|time|u|var|wbr"
SHOWN_ATTRIBUTE = re.compile(r"\b(?:title|placeholder|alt|aria-label|content|hx-confirm)=(\"[^\"]*\"|'[^']*')")
TAG_STRING = re.compile(r"\"([^\"]*)\"|'([^']*)'")


def template(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences of a page or mail template, with those in tag arguments and in shown attributes."""

    def blank(pattern: str, text: str, mark: str = "") -> str:
        return re.sub(pattern, lambda m: mark + "\n" * m.group().count("\n"), text, flags=re.DOTALL)

    text = blank(r"\{#.*?#\}", source)
    text = blank(r"\{% comment.*?endcomment %\}|<!--.*?-->|<(script|style)\b.*?</\1>", text, BREAK)
    for tag in re.finditer(r"\{[%{].*?[%}]\}", text, re.DOTALL):
        for string in TAG_STRING.finditer(tag.group()):
            yield from split(string.group(1) or string.group(2) or "", 1 + text.count("\n", 0, tag.start()))
    text = blank(r"\{\{.*?\}\}", text, "X")
    text = blank(r"\{%.*?%\}", text)
    for attribute in SHOWN_ATTRIBUTE.finditer(text):
        yield from split(html.unescape(attribute.group(1)[1:-1]), 1 + text.count("\n", 0, attribute.start()))
    text = blank(rf"</?(?:{INLINE})\b[^>]*>", text)
    text = blank(r"<[^>]*>", text, BREAK)
    yield from split(html.unescape(by_paragraph(text)))


def markdown(source: str) -> Iterator[tuple[int, str]]:
    """List the sentences of a Markdown page, with table cells and with the comments of its commands."""
    lines, fenced = [], False
    for line in source.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            lines.append(BREAK)
        elif fenced or re.match(r"^ {4,}\S", line):
            lines.append(BREAK + (line.split("#", 1)[1] if "#" in line else "") + BREAK)
        elif not line.strip() or re.match(r"^\s*\|[\s:|-]+\|\s*$", line):
            lines.append(BREAK)
        else:
            starts = re.match(r"^\s*([*+-]|\d+\.|#+|>)\s", line)
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
            plain = re.sub(r"^\s*([*+-]|\d+\.|#+|>)\s", "", plain)
            lines.append((BREAK if starts else "") + (plain.replace("|", BREAK) if "|" in line else plain))
            if line.startswith("#"):
                lines[-1] += BREAK
    yield from split("\n".join(lines))


# ------------------------------------------------------------------------------------------------------------- report


def measured() -> list[Sentence]:
    """List every measured sentence of the repository."""
    return [sentence for sentence in everything() if sentence.measured]


def everything() -> Iterator[Sentence]:
    """Read every sentence and fragment of the repository."""
    for path in files(".py"):
        source = read(path)
        product = path.parts[0] not in NOT_PRODUCT
        part = "product" if product else "tests and benchmarks"
        found = [("code", part, s) for s in (*docstrings(source), *comments(source))]
        # A migration repeats the labels and messages of the models.
        if product and "migrations" not in path.parts:
            found += [("pages", "messages, labels and refusals", s) for s in strings(source)]
        yield from (Sentence(kind, part, str(path), line, text) for kind, part, (line, text) in found)
    for path in files(".sql"):
        source = read(path)
        yield from (Sentence("code", "product", str(path), *found) for found in sql_comments(source))
        yield from (Sentence("pages", "messages, labels and refusals", str(path), *found) for found in raised(source))
    for path in files(".html", ".txt"):
        if "templates" in path.parts:
            yield from (Sentence("pages", "templates", str(path), *found) for found in template(read(path)))
    for path in files(".md"):
        yield from (Sentence("docs", "README, docs and the rest", str(path), *found) for found in markdown(read(path)))


def share(sentences: Iterable[Sentence]) -> float:
    """Compute the share of sentences that carry a free relative, in per cent."""
    counted = [sentence.relative for sentence in sentences]
    return 100 * sum(counted) / max(len(counted), 1)


# --------------------------------------------------------------------------------------------------------- docstrings

UNIT_NAMES = re.compile(
    r"(^|_)(seconds|secs|ms|minutes|hours|days|months|bytes|mib|minor|cents|amount|price|rate|share|shares|ppb|ppm|"
    r"percent|bps|timeout|latency|delay|limit|balance|total|gross|net|scale|tokens)(_|$)"
)
UNITS = re.compile(
    r"\b(seconds?|milliseconds?|ms|minutes?|hours?|days?|months?|years?|bytes?|[KMG]iB|minor units?|units?|cents?|"
    r"currenc(y|ies)|scale|parts per (million|billion)|ppm|ppb|per cent|percent|basis points?|tokens?|nats?|UTC)\b|%",
    re.IGNORECASE,
)
ARRAYS = re.compile(r"\b(Tensor|ndarray|NDArray|Floats|Array|ArrayLike|Matrix)\b")
SHAPES = re.compile(
    r"[(\[][A-Za-z0-9_*.]+(, ?[A-Za-z0-9_*.]+)*,?[)\]] (of|float|int|bool)|\bshapes?\b|"
    r"[(\[][A-Za-z0-9_]+, ?[A-Za-z0-9_*]*(, ?[A-Za-z0-9_*]+)*[)\]]|\b[A-Za-z] x [A-Za-z]\b"
)
SOURCES = re.compile(
    r"https?://|\bet al\b|\barXiv\b|\bdoi\b|\b(RFC|ISO|FIPS|NIST|IEEE) ?[0-9-]+|\([A-Z][^()]*,? (19|20)\d\d\)|"
    r"[A-Z]\w+ \(?(19|20)\d\d\b"
)


@dataclass(frozen=True)
class Documented:
    """A public function and its docstring, with the facts that its docstring should give."""

    path: str
    line: int
    name: str
    raises: tuple[str, ...]
    has_units: bool
    has_arrays: bool
    text: str

    @property
    def names_errors(self) -> bool:
        """True when the docstring names one raised class, or says that the function raises."""
        return bool(re.search(r"\b[Rr]ais(e|es|ed|ing)\b", self.text)) or any(name in self.text for name in self.raises)


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """List the public functions of a module and the public methods of its public classes."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                yield member


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without the functions and classes defined in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from own_nodes(child)


def raised_names(function: ast.AST) -> tuple[str, ...]:
    """List the classes that a function's own `raise` statements name."""
    names = []
    for node in own_nodes(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised_class = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised_class, ast.Name | ast.Attribute):
                names.append(raised_class.id if isinstance(raised_class, ast.Name) else raised_class.attr)
    return tuple(name for name in names if name[:1].isupper())


def documented(source: str, path: str) -> Iterator[Documented]:
    """List the public functions of a module with the facts that their docstrings should give."""
    tree = ast.parse(source)
    for function in public_functions(tree):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        types = " ".join(ast.unparse(a) for a in (*(g.annotation for g in arguments), function.returns) if a)
        quantity = any(UNIT_NAMES.search(a.arg) for a in arguments) or bool(UNIT_NAMES.search(function.name))
        numeric = re.search(r"\b(int|float|Decimal|timedelta)\b", types)
        yield Documented(
            path=path,
            line=function.lineno,
            name=function.name,
            raises=raised_names(function),
            has_units=quantity and numeric is not None,
            has_arrays=bool(ARRAYS.search(types)),
            text=ast.get_docstring(function) or "",
        )


def docstring_shares() -> dict[str, tuple[int, int]]:
    """Count the docstrings that give a fact, and the public functions of the product that need it.

    * errors: functions with a `raise` of a class; the docstring names one of the classes, or says "raises".
    * units: functions with a number, and with a parameter or a name that says amount, rate, seconds and so on; the
      docstring names a unit.
    * shapes: functions that take or return an array; the docstring gives a shape, such as (n, k).
    * source: modules with a function that takes or returns an array; a docstring in it cites a paper or a standard.

    A function without a docstring does not give the fact.
    """
    functions: list[Documented] = []
    sources = {True: 0, False: 0}
    for path in files(".py"):
        if path.parts[0] in NOT_PRODUCT or "migrations" in path.parts:
            continue
        source = read(path)
        found = list(documented(source, str(path)))
        functions += found
        if any(function.has_arrays for function in found):
            texts = " ".join(str(node.value) for _, node in docstring_nodes(ast.parse(source)))
            sources[bool(SOURCES.search(texts))] += 1
    raising = [f for f in functions if f.raises]
    measuring = [f for f in functions if f.has_units]
    shaped = [f for f in functions if f.has_arrays]
    return {
        "errors": (sum(f.names_errors for f in raising), len(raising)),
        "units": (sum(bool(UNITS.search(f.text)) for f in measuring), len(measuring)),
        "shapes": (sum(bool(SHAPES.search(f.text)) for f in shaped), len(shaped)),
        "source": (sources[True], sum(sources.values())),
    }


def main(arguments: list[str]) -> None:
    """Print the report that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.prose", description="Measure the prose of the repository.")
    parser.add_argument(
        "--list", nargs="*", metavar="PATH", help="list the sentences that carry one, below these paths"
    )
    parser.add_argument("--docstrings", action="store_true", help="print the shares of docstrings that give facts")
    options = parser.parse_args(arguments)
    if options.docstrings:
        for fact, (given, needed) in docstring_shares().items():
            print(f"{fact:8s} {given:5d} of {needed:5d}  {100 * given / max(needed, 1):5.1f} %")
        return
    sentences = measured()
    if options.list is not None:
        for sentence in sentences:
            below = [Path(sentence.path).is_relative_to(path) for path in options.list]
            if sentence.relative and (any(below) or not below):
                print(f"{sentence.path}:{sentence.line}: {sentence.text}")
        return
    for kind in KINDS:
        of_kind = [s for s in sentences if s.kind == kind]
        print(f"{kind:38s} {len(of_kind):6d} sentences  {share(of_kind):5.1f} % with a free relative")
        for part in sorted({s.part for s in of_kind}):
            of_part = [s for s in of_kind if s.part == part]
            print(f"    {part:34s} {len(of_part):6d} sentences  {share(of_part):5.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
