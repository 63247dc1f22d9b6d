"""A summary as Markdown, as LaTeX with booktabs, and as CSV."""

import csv
import io
from collections.abc import Iterable

from peace.reporting.printing import Printed, Rank, chance, flat, heads, paper, rows
from peace.reporting.summary import Block, Cell, Summary

_SEEDS = "Mean ± standard deviation over seeds [95 % interval, mean over seeds]"
_ONE_SEED = "One seed [95 % interval]"
_PAPER = "paper"
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta", "θ": "theta", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi", "ω": "omega",
    "Δ": "Delta", "Σ": "Sigma", "×": "times", "≤": "leq", "≥": "geq", "→": "rightarrow", "∞": "infty",
}  # fmt: skip
_COMPARISON = ("difference", "low", "high", "p", "p_holm")
_CSV = ("row", "block", "metric", "seeds", "mean", "std", "chance", "low", "high",
        "difference", "difference_low", "difference_high", "p", "p_holm")  # fmt: skip
_FITTED = (
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # smaller where it is too wide, never larger
)
_SIGNS = str.maketrans({"±": r"$\pm$", "−": "$-$"})
_LATEX = _SIGNS | str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{character: f"{{{character}}}" for character in "[]*"},  # after \\ they would be read as its arguments
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "†": r"$^\dagger$",
        "▲": r"$^{\bigtriangleup}$",
        "▼": r"$^{\bigtriangledown}$",
        "–": "--",
        **{letter: f"$\\{name}$" for letter, name in _GREEK.items()},
    }
)


def markdown(summary: Summary) -> str:
    """Returns the table as Markdown: one heading and one table a block, remarks below."""
    parts = [f"<!-- Written by `peace table {summary.experiment}` from the records: do not edit. -->"]
    parts += [f"# {flat(summary.title)}", flat(summary.caption)]
    for block in summary.blocks:
        parts += [f"## {flat(block.title)}", "\n".join(_markdown_lines(block))]
    remarks = [f"{_cells(summary)}; best in bold.", *map(flat, summary.remarks)]
    return "\n\n".join([*parts, *remarks]) + "\n"


def _cells(summary: Summary) -> str:
    """What a cell holds."""
    cells = (cell for block in summary.blocks for line in block.lines for cell in line.cells if cell)
    return _SEEDS if any(cell.std is not None for cell in cells) else _ONE_SEED


def _markdown_lines(block: Block) -> Iterable[str]:
    yield _markdown_row(["", *heads(block)])
    yield "|---|" + "---:|" * len(block.columns)
    for line, (name, cells) in zip(block.lines, rows(block), strict=True):
        marked = (f"**{cell.mean}**" if cell.rank == Rank.BEST else cell.mean for cell in cells)
        yield _markdown_row([name, *(mean + cell.mark + cell.rest for mean, cell in zip(marked, cells, strict=True))])
        if line.has_paper:
            yield _markdown_row(f"*{text}*" for text in [_PAPER, *paper(line, block)])
    if block.chance:
        yield _markdown_row(["Chance", *chance(block)])


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def latex(summary: Summary) -> str:
    """Returns the table as a LaTeX float for the packages booktabs and graphicx: one tabular a block, remarks below."""
    caption = f"{flat(summary.title).rstrip('.')}. {flat(summary.caption)}"
    remarks = [f"{_cells(summary)}; best in bold, second best underlined.", *map(flat, summary.remarks)]
    return "\n".join(
        [
            f"% Written by `peace table {summary.experiment}` from the records: do not edit.",
            r"% Needs \usepackage{booktabs,graphicx}.",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\label{{tab:{summary.experiment}}}",
            *(text for block in summary.blocks for text in _latex_lines(block)),
            r"{\footnotesize " + r" \\ ".join(map(_escaped, remarks)) + r" \par}",
            r"\end{table}",
            "",
        ]
    )


def _latex_lines(block: Block) -> Iterable[str]:
    yield rf"\textbf{{{_escaped(flat(block.title))}}} \\[2pt]"
    yield rf"{_FITTED}{{\begin{{tabular}}{{l{'r' * len(block.columns)}}}"
    yield r"\toprule"
    yield _latex_row(map(_escaped, ["", *heads(block)]))
    yield r"\midrule"
    for line, (name, cells) in zip(block.lines, rows(block), strict=True):
        yield _latex_row([_escaped(name), *map(_latex_cell, cells)])
        if line.has_paper:
            yield _latex_row(rf"\textit{{{_escaped(text)}}}" for text in [_PAPER, *paper(line, block)])
    if block.chance:
        yield r"\midrule"
        yield _latex_row(map(_escaped, ["Chance", *chance(block)]))
    yield r"\bottomrule"
    yield r"\end{tabular}} \\[6pt]"


def _latex_cell(cell: Printed) -> str:
    command = {Rank.PLAIN: "{}", Rank.BEST: r"\textbf{{{}}}", Rank.SECOND: r"\underline{{{}}}"}[cell.rank]
    return command.format(_escaped(cell.mean)) + _escaped(cell.mark) + cell.rest.translate(_SIGNS)


def _latex_row(texts: Iterable[str]) -> str:
    return " & ".join(texts).strip() + r" \\"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def comma_separated(summary: Summary) -> str:
    """Returns the cells in long form: one line a row, block and metric, six significant digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_CSV, *([_PAPER] if summary.paper else [])])
    for block in summary.blocks:
        for line in block.lines:
            for column, cell, figure in zip(block.columns, line.cells, line.paper, strict=True):
                if cell or figure is not None:
                    told = [*_numbers(cell), *(["" if figure is None else f"{figure:f}"] if summary.paper else [])]
                    writer.writerow([line.name, flat(block.title), column.metric, *told])
    return file.getvalue()


def _numbers(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["0", *[""] * (len(_CSV) - 4)]
    compared = (getattr(cell.comparison, name, None) for name in _COMPARISON)
    return [str(cell.seeds), *map(_exact, (cell.mean, cell.std, cell.chance, cell.low, cell.high, *compared))]


def _exact(value: float | None) -> str:
    # By way of twelve digits: which way a tie falls must not hang on the last bit of a sum.
    return "" if value is None else repr(float(f"{float(f'{value:.12g}'):.6g}"))
