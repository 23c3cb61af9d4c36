"""Tables as Markdown, and their place in a text."""

from rich.table import Table

from tests.bench.markdown import as_markdown, marks, put_into

BEGIN, END = marks("spool")


def table() -> Table:
    made = Table("", "ours,\nnow", "should be", caption="a note\n\nanother")
    made.add_row("hit", "1 us", "[red]no[/]")
    made.add_row("other")
    return made


def test_cells_header_and_notes() -> None:
    assert as_markdown(table()).splitlines() == [
        "|  | ours, now | should be |",
        "| --- | --: | --: |",
        "| hit | 1 us | no |",
        "| other |  |  |",
        "",
        "- a note",
        "- another",
    ]


def test_it_is_put_between_the_marks_of_its_part_and_nowhere_else() -> None:
    old = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = put_into(old, "spool", table())
    assert new == f"before\n{BEGIN}\n{as_markdown(table())}{END}\nafter\n"
    assert put_into(new, "spool", table()) == new
    assert put_into(old, "clients", table()) == old
    assert put_into(f"before\n{BEGIN}\nold\n", "spool", table()) == f"before\n{BEGIN}\nold\n"
