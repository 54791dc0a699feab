"""The table of verbs. Help is generated from the verbs' own signatures and docstrings.

Loads neither torch nor any room until a verb runs; turns every error into one sentence and an exit code.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from vitreous import __version__, verbs
from vitreous.cli import show, traced
from vitreous.errors import UsageError, VitreousError

EXIT_CODES = """\
Exit codes: 0 done, 1 our mistake, 2 wrong use, 3 run folder busy, 4 training diverged, 5 no space, 6 damaged file,
7 bad data, 8 no network or server, 130 interrupted, 143 terminated."""

app = App(
    name="vitreous",
    version=__version__,
    help="Vision transformers that work on your own pictures: check them, train, test, and look inside.",
    help_epilogue=EXIT_CODES,
    help_format="markdown",
    default_parameter=Parameter(negative=(), json_list=False),  # a file may be called [1].jpg
    suppress_keyboard_interrupt=False,
)


def predict(
    folder: Path,
    pictures: list[Path],
    /,
    *,
    json: bool = False,
    csv: bool = False,
    top: int = 3,
    limit: int | None = None,
    batch: int = 32,
    coverage: float | None = None,
) -> int:
    """Classify pictures with a trained run.

    Parameters
    ----------
    folder
        The run folder.
    pictures
        Files, folders or quoted glob patterns; or the name of an embedded set (digits, shapes).
    json
        One JSON object a line.
    csv
        A table with one row a picture, for a spreadsheet.
    top
        How many classes to show.
    limit
        Stop after this many pictures.
    batch
        Pictures that go through the network at once.
    coverage
        Show instead the classes among which the right one is with at least this probability, such as 0.9.
    """
    if json and csv:
        raise UsageError("Give either --json or --csv, not both.")
    for name, value in (("--top", top), ("--batch", batch), ("--limit", 1 if limit is None else limit)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}.")
    if not pictures:
        raise UsageError("Name the pictures to classify: files, a folder, or a quoted pattern such as 'photos/*.jpg'.")
    answers = verbs.load(folder).stream(show.inputs(pictures, limit), batch=batch, coverage=coverage)
    return show.answers(answers, form="json" if json else "csv" if csv else "table", top=top)


def trace(
    model: str,
    /,
    *,
    size: str | None = None,
    batch: int = 1,
    image: Path | None = None,
    out: Path | None = None,
    operations: bool = False,
    stage: str | None = None,
    json: bool = False,
) -> int:
    """Show every tensor on its way through a model: shapes, parameters, multiply-accumulates, share of time.

    Parameters
    ----------
    model
        A name that 'vitreous models' lists.
    size
        Side of the pictures in pixels, or rows x columns such as 160x224; the model's own by default.
    batch
        Pictures that go through at once.
    image
        A picture to draw the model's patches, windows and cells on.
    out
        Where to write that drawing; MODEL.trace.png by default. Without an image, an embedded one is drawn on.
    operations
        Every single operation with the shape of its result, instead of stages.
    stage
        The operations of this stage alone, such as blocks.0-11, or of a module in it, such as blocks.0.attn.
    json
        One JSON object: the stages, and all operations.
    """
    operations = operations or stage is not None
    found = verbs.trace(
        model,
        size=size,
        batch=batch,
        stage=stage,
        image=image,
        out=out,
        timed=json or not operations,
    )
    return traced.traced(found, form="json" if json else "operations" if operations else "stages")


def models(pattern: str = "*", *, json: bool = False) -> int:
    """List the models that can be trained, with their cost and the weights published for them.

    Parameters
    ----------
    pattern
        Part of a name, or a pattern such as 'vit_*'. A single model is shown with all its weights.
    json
        One JSON object a line.
    """
    return show.models(verbs.list_models(pattern), form="json" if json else "table")


def _torch_free(verb: Callable[..., Any], **called: str) -> Callable[..., Any]:
    """``verb`` without its return annotation, which names a type in a room that would load torch to be resolved.

    Args:
        called: options that have another name than Python allows them.
    """

    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> Any:
        return verb(*arguments, **options)

    hints = {name: hint for name, hint in verb.__annotations__.items() if name != "return"}
    call.__annotations__ = hints | {n: Annotated[str | None, Parameter(name=option)] for n, option in called.items()}
    return call


app.command(_torch_free(verbs.check))
app.command(_torch_free(verbs.train))
app.command(_torch_free(verbs.pretrain, begin="--from"))
app.command(_torch_free(verbs.compare))
app.command(_torch_free(verbs.resume))
app.command(_torch_free(verbs.evaluate), name=["eval", "evaluate"])
app.command(predict)
app.command(_torch_free(verbs.embed))
app.command(_torch_free(verbs.report))
app.command(models)
app.command(trace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; the documented ones are in ``EXIT_CODES``."""
    with _terminable():
        return guarded(lambda: _run(sys.argv[1:] if arguments is None else list(arguments)))


class _Terminated(BaseException):
    """SIGTERM came where nothing waits for it (``training.interrupt``)."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the work inside like Ctrl-C: with a word, and with files closed."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        raise _Terminated

    # one of several processes may wait for the others inside a library, which no exception would end
    if threading.current_thread() is not threading.main_thread() or "WORLD_SIZE" in os.environ:
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def guarded(work: Callable[[], int]) -> int:
    """Call ``work``; whatever goes wrong becomes one sentence on standard error and an exit code."""
    try:
        return work()
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()), UsageError.exit_code)
    except VitreousError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("Stopped.", 130)
    except _Terminated:
        return _fail("Terminated.", 143)
    except BrokenPipeError:
        # the reader of our output has gone (vitreous ... | head); point stdout at nothing so that exit is quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail("There is not enough memory; try a smaller --batch or --size.", 1)
    except Exception as error:
        return _ours(error)


def _run(arguments: list[str]) -> int:
    result = app(
        arguments,
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        error_console=Console(stderr=True),
    )
    return show.result(result) if _speaks() else 0


def _speaks() -> bool:
    """Whether this process talks to people: under torchrun one voice is enough."""
    return os.environ.get("RANK", "0") == "0"


def _ours(error: Exception) -> int:
    """An error that is not the user's: say so, keep the traceback in a file, and never show it."""
    if "not enough memory" in str(error) or "out of memory" in str(error):
        return _fail("There is not enough memory; try a smaller --batch or --size.", 1)
    if os.environ.get("VITREOUS_TRACEBACK"):
        raise error
    with tempfile.NamedTemporaryFile("w", prefix="vitreous-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return _fail(
        f"This is a mistake of vitreous {__version__}, not yours ({type(error).__name__}). "
        f"Please report it with the details in {file.name}.",
        1,
    )


def _fail(sentence: str, code: int) -> int:
    if _speaks():
        Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, style="bold red", markup=False)
    return code
