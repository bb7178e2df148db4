"""What the audience sees: sections, facts, tables, and checks that decide the exit code."""

from rich.console import Console
from rich.table import Table


class Stage:
    """The terminal, and every check made so far."""

    def __init__(self):
        self.console = Console(highlight=False)
        self.failed = []
        self.section = 0

    def scene(self, title):
        """A new part of the story."""
        self.section += 1
        self.console.print(f"\n[bold cyan]{self.section}. {title}[/]")

    def say(self, text):
        """One line."""
        self.console.print(f"   {text}", soft_wrap=True)

    def check(self, holds, claim):
        """Shows a claim with a tick or a cross; one cross makes the demo fail."""
        self.say(f"[green]✓[/] {claim}" if holds else f"[bold red]✗ not so:[/] {claim}")
        if not holds:
            self.failed.append(claim)

    def table(self, *columns, rows, right=()):
        """A table without lines."""
        table = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


def ms(seconds):
    """Seconds as milliseconds for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def mib(count):
    """Bytes as MiB."""
    return f"{count / 2**20:.0f} MiB"


def bar(count, most, width=24):
    """A bar of blocks."""
    return "█" * round(width * count / most) if most else ""
