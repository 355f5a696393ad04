"""``%load_ext claude_batch_pandas``: a cell whose text is a template, and a line about runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    cell_magic,
    line_magic,
    magics_class,
    no_var_expand,
)
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from claude_batch_pandas import finding, listing
from claude_batch_pandas.accessor import Claude
from claude_batch_pandas.exceptions import BatchError
from claude_batch_pandas.spending import costs

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAME = "claude_batch"
QUOTES = ("'", '"')
USES = "%claude_batch runs | show ID | cancel ID | costs [day|model|run|key|origin ...]"


@magics_class
class BatchMagics(Magics):
    """The magics of this package."""

    @magic_arguments()
    @argument("frame", help="The name of a DataFrame or Series.")
    @argument("-o", "--output", default="answer", help="The name of the new column.")
    @argument("--to", metavar="NAME", help="Bind the new frame, or the run, to this name.")
    @argument("-m", "--model", help="Default: options.model.")
    @argument("--max-tokens", type=int, help="Tokens an answer may have.")
    @argument("--max-cost", type=float, help="US dollars that it may cost at most.")
    @argument("--system", help="The system prompt.")
    @argument("--votes", type=int, default=1, help="Ask each row that often.")
    @argument("--replace", action="store_true", help="Rewrite the new columns when they exist.")
    @argument("--wait", dest="wait", action="store_true", default=True, help="Wait (default).")
    @argument("--no-wait", dest="wait", action="store_false", help="Return the run at once.")
    @no_var_expand
    @cell_magic
    def claude_batch(self, line: str, cell: str) -> Any:
        """Ask Claude about every row of a frame; the cell is the template, braces and all."""
        try:
            given = parse_argstring(self.claude_batch, line)
        except ValueError as error:  # a quotation that does not end
            raise UsageError(str(error)) from None
        assert self.shell is not None, "a magic is run by a shell"
        names = self.shell.user_ns
        for name, value in vars(given).items():
            setattr(given, name, _unquoted(value))
        if given.to is not None and not given.to.isidentifier():
            msg = f"--to needs the name of a variable, not {given.to!r}."
            raise UsageError(msg)
        if given.frame not in names:
            msg = f"There is no variable {given.frame!r}. Name a DataFrame or a Series."
            raise UsageError(msg)
        data = names[given.frame]
        options = {
            "output": given.output,
            "model": given.model,
            "max_tokens": given.max_tokens,
            "max_cost": given.max_cost,
            "system": given.system,
            "votes": given.votes,
            "replace": given.replace,
        }
        try:
            claude = Claude(data)
            ask = claude.batch if given.wait else claude.submit
            found = ask(cell.strip("\n"), **options)
        except BatchError as error:
            raise UsageError(str(error)) from None
        if given.to is None:
            return found
        self.shell.user_ns[given.to] = found
        return None

    @line_magic(NAME)  # type: ignore[arg-type]
    def about(self, line: str) -> Any:
        """Tell of runs: ``runs``, ``show ID``, ``cancel ID``, ``costs``."""
        words = line.split()
        try:
            match words:
                case ["runs"]:
                    return listing.runs()
                case ["show", run_id]:
                    return finding.run(run_id)
                case ["cancel", run_id]:
                    return finding.run(run_id).cancel()
                case ["costs", *by]:
                    return costs(by or "day")
        except BatchError as error:
            raise UsageError(str(error)) from None
        msg = f"{USES}; not {line!r}."
        raise UsageError(msg)


def _unquoted(value: Any) -> Any:
    """Return an argument without the quotes around it, which IPython leaves there."""
    is_quoted = isinstance(value, str) and len(value) > 1 and value[0] == value[-1] in QUOTES
    return value[1:-1] if is_quoted else value


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell."""
    shell.register_magics(BatchMagics)


def unload(shell: InteractiveShell) -> None:
    """Take them away again, which IPython does not do by itself."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
