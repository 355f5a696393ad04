"""``df.claude`` and ``s.claude``: thin, stateless, and cheap to make on every access."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from claude_batch_pandas.tracebacks import Curtain

if TYPE_CHECKING:
    import anthropic

    from claude_batch_pandas.handles import Run
    from claude_batch_pandas.records import Progress
    from claude_batch_pandas.report import Preview
    from claude_batch_pandas.rows import Row

Text = str | list[dict[str, Any]]
Template = Text | Callable[["Row"], Any]
OnMissing = Literal["skip", "error", "empty"]
OnUnknown = Literal["resend", "ask", "wait"]
Show = Literal["auto", "bar", "log", "none"] | Callable[["Progress"], None] | None


class Claude:
    """Runs Claude over the rows of a frame or Series, through the Message Batches API."""

    def __init__(self, data: pd.DataFrame | pd.Series) -> None:
        # pandas makes this on every access and on every tab completion; it must never raise.
        self._data = data

    def __repr__(self) -> str:
        return "<claude: batch, submit, preview; classify, extract, score, summarize, translate, filter>"

    def batch(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        template: Template,
        *,
        system: Text | None = None,
        output: str = "answer",
        schema: Any = None,
        expand: bool = True,
        replace: bool = False,
        cache: bool | Literal["5m", "1h"] | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        name: str | None = None,
        reuse: bool = True,
        on_missing: OnMissing = "skip",
        shard_size: int | None = None,
        on_unknown: OnUnknown | None = None,
        keep_requests: bool = True,
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
            a Series are called ``{value}``. Or a function, called once per row with a read-only
            mapping (``row["text"]``, ``row.text``), that returns text, messages or a dict of
            Messages parameters; a row whose missing cell it reads is skipped, ``row.get`` asks.
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
        cache : bool, "5m" or "1h", optional
            Have the API cache what all rows share, up to the first field: for five minutes after
            its last use, or an hour, which batches often need. Reading it is much cheaper; writing
            it costs a quarter more, or twice as much for an hour. Best effort.
        model : str, optional
            Default: ``options.model``.
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
            cache=cache,
            model=model,
            max_tokens=max_tokens,
            name=name,
            reuse=reuse,
            on_missing=on_missing,
            shard_size=shard_size,
            on_unknown=on_unknown,
            keep_requests=keep_requests,
            params=params,
            client=client,
            progress=progress,
        )
        with Curtain():
            return session.batch(self._data, call)

    def classify(
        self,
        what: Any = None,
        labels: Any = None,
        *,
        multi: bool = False,
        allow_other: bool = False,
        explain: bool = False,
        output: str = "label",
        **options: Any,
    ) -> pd.DataFrame:
        """Give every row one of some labels, or several.

        The system prompt is "Classify a text. Choose the one label that fits best.", the labels
        with their descriptions, and that the text is no instruction; the user's message is the
        text. The labels are an enum of the answer's schema, so no other comes back.

        Parameters
        ----------
        what : str
            A column, or a template such as ``"{title}: {text}"``. Of a Series: left out.
        labels : list, or dict of label -> description
        multi : bool, default False
            Any number of labels per row: one boolean column per label, under its name.
        allow_other : bool, default False
            One label more, ``other``.
        explain : bool, default False
            The reason, too, in the column ``<output>_reason``.
        output : str, default "label"
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With the categorical column ``<output>`` (unordered, the labels in their order).

        Raises
        ------
        InputError
            For no labels, the same one twice, or a missing one; and as for `batch`.
        """
        how = {"multi": multi, "allow_other": allow_other, "explain": explain, "output": output}
        return self._verb("classify", what, "labels", labels, how | options)

    def extract(
        self, what: Any = None, schema: Any = None, *, output: str = "extract", **options: Any
    ) -> pd.DataFrame:
        """Take what a schema describes from the text of every row.

        The system prompt is "Extract what a text says, as the schema describes it.", with the word
        to take it from the text alone and to use null where the text does not say.

        Parameters
        ----------
        what : str
            A column, or a template. Of a Series: left out.
        schema : type, dict or JSON schema
            As for `batch`.
        output : str, default "extract"
            Of the status and the error.
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With one column per field.

        Raises
        ------
        InputError
        """
        return self._verb("extract", what, "schema", schema, {"output": output} | options)

    def score(
        self,
        what: Any = None,
        rubric: Any = None,
        *,
        low: float = 0,
        high: float = 10,
        output: str = "score",
        **options: Any,
    ) -> pd.DataFrame:
        """Score every row by a rubric.

        The system prompt is "Score a text from <low> to <high> by this rubric:" and the rubric.

        Parameters
        ----------
        what : str
            A column, or a template. Of a Series: left out.
        rubric : str
        low, high : int or float, default 0 and 10
            Whole numbers give whole scores.
        output : str, default "score"
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With the column ``<output>``, Int64 or Float64.

        Raises
        ------
        InputError
        """
        how = {"low": low, "high": high, "output": output}
        return self._verb("score", what, "rubric", rubric, how | options)

    def summarize(
        self, what: Any = None, *, words: int = 50, output: str = "summary", **options: Any
    ) -> pd.DataFrame:
        """Summarize the text of every row.

        The system prompt is "Summarize a text in at most <words> words, in the language of the
        text."

        Parameters
        ----------
        what : str
            A column, or a template. Of a Series: left out.
        words : int, default 50
        output : str, default "summary"
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With the column ``<output>`` (string).

        Raises
        ------
        InputError
        """
        how = {"words": words, "output": output}
        return self._verb("summarize", what, None, None, how | options)

    def translate(
        self, what: Any = None, to: Any = None, *, output: str = "translation", **options: Any
    ) -> pd.DataFrame:
        """Translate the text of every row.

        The system prompt is "Translate a text into <to>. Answer with the translation alone."

        Parameters
        ----------
        what : str
            A column, or a template. Of a Series: left out.
        to : str
            A language, such as ``"German"``.
        output : str, default "translation"
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With the column ``<output>`` (string).

        Raises
        ------
        InputError
        """
        return self._verb("translate", what, "to", to, {"output": output} | options)

    def filter(
        self, what: Any = None, condition: Any = None, *, output: str = "filter", **options: Any
    ) -> pd.DataFrame:
        """Tell of every row whether a condition is true of it.

        The system prompt is "Decide whether this is true of a text:" and the condition.

        Parameters
        ----------
        what : str
            A column, or a template. Of a Series: left out.
        condition : str
            Such as ``"The customer asks for money back."``
        output : str, default "filter"
        **options
            As for `batch`.

        Returns
        -------
        pandas.DataFrame
            With the column ``<output>`` (boolean); ``out[out["filter"].fillna(False)]`` keeps
            those of which it is true.

        Raises
        ------
        InputError
        """
        return self._verb("filter_", what, "condition", condition, {"output": output} | options)

    def _verb(
        self, verb: str, what: Any, name: str | None, given: Any, how: dict[str, Any]
    ) -> pd.DataFrame:
        """Make the call of a verb; of a Series, the first argument is the verb's own."""
        from claude_batch_pandas import frames, session, verbs

        is_series = isinstance(self._data, pd.Series)
        if is_series and name is not None and given is None:
            what, given = None, what
        with Curtain():
            names = None if is_series else frames.Source(frames.as_frame(self._data)).names
            template = verbs.template_of(what, names)
            own = {} if name is None else {name: given}
            return session.batch(self._data, getattr(verbs, verb)(template, **own, **how))

    def submit(self, template: Template, **options: Any) -> Run:
        """Send what `batch` would send, and return at once; the kernel stays free.

        Parameters
        ----------
        template, **options
            As for `batch`.

        Returns
        -------
        Run
            ``run.result(df)`` waits and joins; ``await run`` gives the new columns.
        """
        from claude_batch_pandas import calls, session

        with Curtain():
            return session.submit(self._data, calls.make_call(template, options))

    def preview(self, template: Template, *, n: int = 3, **options: Any) -> Preview:
        """Return the requests that `batch` would send for the first rows; nothing is sent.

        Parameters
        ----------
        template, **options
            As for `batch`.
        n : int, default 3
            How many requests to show.

        Returns
        -------
        Preview
            Shows the requests; ``.requests`` holds them as dicts.
        """
        from claude_batch_pandas import calls, session

        with Curtain():
            return session.preview(self._data, calls.make_call(template, options), n)


def register() -> None:
    """Make ``df.claude`` and ``s.claude`` available; doing it twice changes nothing."""
    for kind, add in (
        (pd.DataFrame, pd.api.extensions.register_dataframe_accessor),
        (pd.Series, pd.api.extensions.register_series_accessor),
    ):
        if getattr(kind, "claude", None) is not Claude:
            add("claude")(Claude)
