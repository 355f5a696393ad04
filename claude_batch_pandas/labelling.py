"""The everyday verbs of ``df.claude`` and ``s.claude``: labels, fields, scores, summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from claude_batch_pandas.tracebacks import Curtain

if TYPE_CHECKING:
    from claude_batch_pandas.calls import Call


class Verbs:
    """What is asked so often that it has a name; thin over `batch`.

    Parameters
    ----------
    data : pandas.DataFrame or pandas.Series
    """

    def __init__(self, data: pd.DataFrame | pd.Series) -> None:
        self._data = data

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
        what : str or list
            A column, a template such as ``"{title}: {text}"``, or parts: ``[document("path")]``.
            Of a Series: left out.
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
            those of which it is true. A row that was refused or failed is neither true nor false.

        Raises
        ------
        InputError
        """
        return self._verb("filter", what, "condition", condition, {"output": output} | options)

    def _verb(
        self, verb: str, what: Any, name: str | None, given: Any, how: dict[str, Any]
    ) -> pd.DataFrame:
        """Make the call of a verb; of a Series, the first argument is the verb's own."""
        from claude_batch_pandas import session

        if isinstance(self._data, pd.Series) and name is not None and given is None:
            what, given = None, what
        own = {} if name is None else {name: given}
        with Curtain():
            return session.batch(self._data, self._call(what, {"verb": verb, **own, **how}))

    def _call(self, what: Any, options: dict[str, Any]) -> Call:
        """Return the call of a template, or of a verb where one is named."""
        from claude_batch_pandas import calls, frames, verbs

        if "verb" not in options:
            return calls.make_call(what, options)
        is_series = isinstance(self._data, pd.Series)
        names = None if is_series else frames.Source(frames.as_frame(self._data)).names
        how = {name: value for name, value in options.items() if name != "verb"}
        return verbs.call_of(options["verb"], verbs.template_of(what, names), how)
