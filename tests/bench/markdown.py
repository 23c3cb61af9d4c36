"""A table of a run as Markdown, and its place in a text: between two lines that name the part it is of."""

from rich.table import Table
from rich.text import Text


def marks(part: str) -> tuple[str, str]:
    return f"<!-- bench {part}: begin -->", f"<!-- bench {part}: end -->"


def as_markdown(table: Table) -> str:
    """The table, and its caption as a list."""
    columns = [[_plain(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    header, *rows = [" | ".join(cells) for cells in zip(*columns, strict=True)]
    rule = " | ".join(["---", *["--:"] * (len(columns) - 1)])
    lines = [f"| {row} |" for row in (header, rule, *rows)]
    notes = [f"- {note}" for note in str(table.caption or "").splitlines() if note]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def _plain(cell: object) -> str:
    return Text.from_markup(str(cell)).plain.replace("\n", " ")


def put_into(text: str, part: str, table: Table) -> str:
    """The text, with the table between the marks of its part; as it was if it has none."""
    begin, end = marks(part)
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    return f"{before}{begin}\n{as_markdown(table)}{end}{after}" if found and found_end else text
