"""``df.claude`` and ``s.claude``: thin, stateless, and cheap to make on every access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Union

import pandas as pd

from claude_batch_pandas.labelling import Verbs
from claude_batch_pandas.tracebacks import Curtain

if TYPE_CHECKING:
    import anthropic

    from claude_batch_pandas.blocks import Media
    from claude_batch_pandas.estimates import Estimate
    from claude_batch_pandas.handles import Run
    from claude_batch_pandas.records import Progress
    from claude_batch_pandas.report import Preview
    from claude_batch_pandas.rows import Row
    from claude_batch_pandas.slots import Column

Text = str | list[dict[str, Any]]
Template = Union[str, "Sequence[str | Media | dict[str, Any]]", "Column", Callable[["Row"], Any]]
Frame = pd.DataFrame | pd.Series
P = ParamSpec("P")
OnMissing = Literal["skip", "error", "empty"]
OnUnknown = Literal["resend", "ask", "wait"]
Show = Literal["auto", "bar", "log", "none"] | Callable[["Progress"], None] | None


class Claude(Verbs):
    """Runs Claude over the rows of a frame or Series, through the Message Batches API."""

    def __repr__(self) -> str:
        doors = "batch, submit, sample, preview, estimate"
        return f"<claude: {doors}; classify, extract, score, summarize, translate, filter>"

    def batch(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        template: Template,
        *,
        system: Text | Column | None = None,
        output: str = "answer",
        schema: Any = None,
        expand: bool = True,
        replace: bool = False,
        examples: pd.DataFrame | None = None,
        history: Run | str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Mapping[str, Any] | None = None,
        thinking: Mapping[str, Any] | Column | None = None,
        effort: str | Column | None = None,
        upload: bool = False,
        cache: bool | Literal["5m", "1h"] | None = None,
        warm: bool = False,
        votes: int = 1,
        model: str | Column | None = None,
        max_tokens: int | Column | None = None,
        name: str | None = None,
        reuse: bool = True,
        on_missing: OnMissing = "skip",
        shard_size: int | None = None,
        on_unknown: OnUnknown | None = None,
        keep_requests: bool = True,
        canary: bool | None = None,
        force: bool = False,
        max_cost: float | Decimal | None = None,
        confirm: bool = False,
        params: Mapping[str, Any] | None = None,
        client: anthropic.Anthropic | None = None,
        progress: Show = None,
    ) -> pd.DataFrame:
        """Ask Claude about every row through the Message Batches API, and join the answers.

        Running the same call again is free: a request that has an answer, or is on its way, is
        never sent again. An interrupt detaches and loses nothing.

        Parameters
        ----------
        template : str, list of dict, or callable
            Text with ``{column}`` or ``{column:format}`` fields (``{{`` and ``}}`` are braces),
            or a list of ``{"role": ..., "content": ...}`` messages with such text. The values of
            a Series are called ``{value}``. A list of texts, `image` and `document` blocks is one
            user message; ``col("messages")`` is a column of whole conversations. Or a function,
            called once per row with a read-only mapping (``row["text"]``, ``row.text``), that
            returns text, messages or a dict of Messages parameters; a row whose missing cell it
            reads is skipped, ``row.get`` asks.
        system : str or list of dict, optional
            The system prompt, templated likewise.
        output : str, default "answer"
            Name of the new column; ``<output>_status`` and ``<output>_error`` come with it.
        schema : type, dict or JSON schema, optional
            What each answer must be: a Pydantic model, a dataclass, a TypedDict, a dict of column
            -> type, any type such as ``int`` or ``Literal["a", "b"]``, or a JSON schema. Every
            field becomes a column of a fitting dtype; an answer that does not fit is ``invalid``.
        expand : bool, default True
            False keeps whole answers in the one column ``<output>``.
        replace : bool, default False
            Rewrite the new columns when they exist.
        examples : pandas.DataFrame, optional
            Good answers to show first: the template's columns, and the output's.
        history : Run or str, optional
            A finished run of the same rows, or its id: each row's conversation goes on with its
            requests and answer, and the template is what is said next.
        tools, tool_choice, thinking : optional
            As the Messages API takes them. An answer that calls a tool is that tool's input.
        effort : str, optional
            ``output_config.effort``, such as ``"low"``.
        upload : bool, default False
            Send each distinct image and document once, through the Files API, and refer to it.
        cache : bool, "5m" or "1h", optional
            Have the API cache what all rows share, up to the first field: for five minutes after
            its last use, or an hour, which batches often need. Reading it is much cheaper; writing
            it costs a quarter more, or twice as much for an hour. Best effort.
        warm : bool, default False
            Send one request alone first and wait for it, so that the others find the cache filled.
        votes : int, default 1
            Ask each row that often and take the answer that most agree on; ``<output>_agreement``
            is its share.
        model : str, optional
            Default: ``options.model``. Like any parameter, it may be a column: ``col("model")``.
        max_tokens : int, optional
            Tokens an answer may have, thinking included. Default: ``options.max_tokens``.
        name : str, optional
            Of the run, for people. Default: the output.
        reuse : bool, default True
            False asks anew what was asked before.
        on_missing : {"skip", "error", "empty"}, default "skip"
            What to do with a row in which a value is missing.
        shard_size : int, optional
            Requests per batch at most. Default: rows / 10, between 500 and 10,000.
        on_unknown : {"resend", "ask", "wait"}, optional
            What to do when the answer to a submission was lost and no batch of it shows up:
            send it again, pause and ask, or go on looking. Default: ``options.on_unknown``.
        keep_requests : bool, default True
            False deletes the requests from this disk as soon as the API has them; then nothing
            of the run can be sent again.
        canary : bool, optional
            With 20 new requests or more, ask the first one now, at the live price: what the API
            refuses is told in seconds. Its answer is that row's. Default: ``options.canary``.
        force : bool, default False
            Send what the model is known to refuse all the same.
        max_cost : float or Decimal, optional
            US dollars that the run may cost at most. What it can cost in the worst case (every
            answer as long as `max_tokens`) has to fit, else nothing is sent.
        confirm : bool, default False
            Ask before sending what can cost more than ``options.confirm_above`` US dollars.
        params : mapping, optional
            Any other Messages parameter, merged last; ``betas=[...]`` becomes the header.
        client : anthropic.Anthropic, optional
            Default: built from the environment, as the SDK does.
        progress : {"auto", "bar", "log", "none"} or callable, optional
            Default: ``options.progress``.

        Returns
        -------
        pandas.DataFrame
            A new frame: the same index, rows and columns, and ``<output>`` (string, missing
            unless there is an answer), ``<output>_status`` (categorical) and ``<output>_error``
            (string). With a `schema`, its fields in place of ``<output>``: Int64, Float64,
            boolean, string, datetime64, categorical (choices, in their order), else objects. Of a
            Series, only the new ones.

        Raises
        ------
        InputError
            For whatever is wrong with the arguments, before anything is sent or written.
        CostLimitError
            When it can cost more than a cap allows, or was not confirmed; nothing was sent.
        CredentialsError
            When nothing to sign a request with is found.
        APIError
            When the API cannot be reached and nothing was planned yet.
        PausedError
            When a person is needed (key, credit); nothing is lost, the same call goes on later.

        Examples
        --------
        >>> import anthropic
        >>> import pandas as pd
        >>> import claude_batch_pandas as cbp
        >>> df = pd.DataFrame({"text": ["Where is my card?", "I lost my card!"]})
        >>> with cbp.emulator.serve(speed=100) as url:  # answers locally, without a key
        ...     client = anthropic.Anthropic(base_url=url, api_key="none")
        ...     out = df.claude.batch(
        ...         "Which intent is this? {text}", output="intent", client=client
        ...     )
        >>> list(out.columns)
        ['text', 'intent', 'intent_status', 'intent_error']
        """
        from claude_batch_pandas import calls, session

        call = calls.Call(
            template=template,
            system=system,
            output=output,
            schema=schema,
            expand=expand,
            replace=replace,
            examples=examples,
            history=history,
            tools=tools,
            tool_choice=tool_choice,
            thinking=thinking,
            effort=effort,
            upload=upload,
            cache=cache,
            warm=warm,
            votes=votes,
            model=model,
            max_tokens=max_tokens,
            name=name,
            reuse=reuse,
            on_missing=on_missing,
            shard_size=shard_size,
            on_unknown=on_unknown,
            keep_requests=keep_requests,
            canary=canary,
            force=force,
            max_cost=max_cost,
            confirm=confirm,
            params=params,
            client=client,
            progress=progress,
        )
        with Curtain():
            return session.batch(self._data, call)

    def sample(
        self, template: Template | None = None, *, n: int = 5, **options: Any
    ) -> pd.DataFrame:
        """Ask Claude about a few rows now, through the Messages API, to see whether a call is right.

        It costs the live price, twice that of a batch, and the closing line says so. The answers
        are kept: the batch over all rows does not ask these again.

        Parameters
        ----------
        template : str, list or callable
        n : int, default 5
            How many rows, spread evenly over the frame.
        **options
            As for `batch`, or `submit` with a verb.

        Returns
        -------
        pandas.DataFrame
            Those rows, with the columns that `batch` gives.

        Raises
        ------
        InputError
            For whatever is wrong with the arguments, before anything is sent.
        """
        from claude_batch_pandas import session

        with Curtain():
            return session.sample(self._data, self._call(template, options), n)

    def submit(self, template: Template | None = None, **options: Any) -> Run:
        """Send what `batch` would send, and return at once; the kernel stays free.

        Parameters
        ----------
        template, **options
            As for `batch`; or those of a verb, with its name: ``submit("text", verb="classify",
            labels=[...])``.

        Returns
        -------
        Run
            ``run.result(df)`` waits and joins; ``await run`` gives the new columns.
        """
        from claude_batch_pandas import session

        with Curtain():
            return session.submit(self._data, self._call(template, options))

    def preview(self, template: Template | None = None, *, n: int = 3, **options: Any) -> Preview:
        """Return the requests that `batch` would send for the first rows; nothing is sent.

        Parameters
        ----------
        template, **options
            As for `batch`, or `submit` with a verb.
        n : int, default 3
            How many requests to show.

        Returns
        -------
        Preview
            Shows the requests; ``.requests`` holds them as dicts.
        """
        from claude_batch_pandas import session

        with Curtain():
            return session.preview(self._data, self._call(template, options), n)

    def estimate(
        self, template: Template | None = None, *, offline: bool = False, **options: Any
    ) -> Estimate:
        """Return what `batch` would send and about what it would cost; no row is answered.

        The API counts the tokens of a few requests, which costs nothing; the others go by their
        bytes. How long answers will be is not known before: `expected` takes typical ones, `high`
        takes `max_tokens` for each.

        Parameters
        ----------
        template, **options
            As for `batch`, or `submit` with a verb.
        offline : bool, default False
            Ask nobody anything; tokens are guessed from bytes, with the error that is told.

        Returns
        -------
        Estimate
            Shows rows, requests, tokens and US dollars (``.dollars.expected``).

        Raises
        ------
        InputError
            For whatever is wrong with the arguments.
        """
        from claude_batch_pandas import estimating

        with Curtain():
            call = self._call(template, options)
            return estimating.estimate_call(self._data, call, offline=offline)


def _takes_what(
    method: Callable[Concatenate[Claude, P], pd.DataFrame],  # noqa: ARG001 - for its parameters
) -> Callable[[Callable[..., pd.DataFrame]], Callable[Concatenate[Frame, P], pd.DataFrame]]:
    """Tell type checkers and editors that a function of a frame takes what a method does."""
    return lambda function: function


@_takes_what(Claude.batch)
def batch(data: Frame, template: Template, **options: Any) -> pd.DataFrame:
    """Do what ``data.claude.batch(template, ...)`` does, in a form that editors and types know.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    template, **options
        As for ``df.claude.batch``.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        When `data` is neither, and as for ``df.claude.batch``.
    """
    return Claude(data).batch(template, **options)


def register() -> None:
    """Make ``df.claude`` and ``s.claude`` available; doing it twice changes nothing."""
    for kind, add in (
        (pd.DataFrame, pd.api.extensions.register_dataframe_accessor),
        (pd.Series, pd.api.extensions.register_series_accessor),
    ):
        if getattr(kind, "claude", None) is not Claude:
            add("claude")(Claude)
