"""Docstrings as people write them."""

import pytest
from rows import each_row

from agentcall.tools.schema import docstring

GOOGLE = """Find a thing.

    It looks everywhere: even there.
    Args:
        name (str): the name,
            which may be long
        limit (Optional[int], default (5)): how many: at most
        *rest: more names
        **options (Any): options
        ghost: no such parameter

    Returns:
        list: the things

    Raises:
        KeyError: if there are none

    Example:
        >>> find("x")

        more
    Note:
        slow
    Yields:
        nothing
    """
NUMPY = """Find a thing.

    It looks everywhere: even there.

    Parameters
    ---------
    name : str
        the name,
        which may be long
    limit : int, optional
        how many: at most
    *rest
        more names
    **options : Any
        options

    Returns
    -------
    list
        the things

    Notes
    -----
    slow

    Examples
    --------
    >>> find("x")
    """
SPHINX = """Find a thing.

    It looks everywhere: even there.
    :param str name: the name,
        which may be long
    :param limit: how many: at most
    :type limit: int
    :param \\*rest: more names
    :param options: options
    :returns: the things
    :rtype: list
    :raises KeyError: if there are none
    """
EPYDOC = """Find a thing.

    It looks everywhere: even there.

    @param name: the name,
        which may be long
    @type name: str
    @param limit: how many: at most
    @param rest: more names
    @param options: options
    @return: the things
    """


@pytest.mark.parametrize(
    "text", [GOOGLE, NUMPY, SPHINX, EPYDOC], ids=["google", "numpy", "sphinx", "epydoc"]
)
def test_each_style_gives_the_description_and_the_parameters(text: str) -> None:
    read = docstring.read_docstring(text)
    assert read.description == "Find a thing.\n\nIt looks everywhere: even there."
    wanted = {
        "name": "the name, which may be long",
        "limit": "how many: at most",
        "rest": "more names",
        "options": "options",
    }
    assert {name: read.parameters.get(name) for name in wanted} == wanted


@each_row(
    ("text", "description", "parameters"),
    [
        (None, "", {}),
        ("", "", {}),
        ("Add.", "Add.", {}),
        ("Add: two numbers.", "Add: two numbers.", {}),
        ("Usage: call it\nwith: care.", "Usage: call it\nwith: care.", {}),
        ("See http://example.com: fine.", "See http://example.com: fine.", {}),
        ("Args:\n    x: the x", "", {"x": "the x"}),
        ("Add.\nArgs:\n    x: the x\nReturns:\n    y", "Add.", {"x": "the x"}),
        ("Add.\n\nArgs:\n    None\n\nReturns:\n    int: the sum", "Add.", {}),
        ("Add.\n\nArgs: None\n", "Add.", {}),
        (
            "Add.\n\nArgs:\nx: the x\ny: the y\n\nThe end.",
            "Add.\n\nThe end.",
            {"x": "the x", "y": "the y"},
        ),
        ("Add.\n\nArguments:\n\tx: the x\n\ty:\tthe y", "Add.", {"x": "the x", "y": "the y"}),
        ("Add.\n\nParameters:\n  x - the x\n  y – the y", "Add.", {"x": "the x", "y": "the y"}),
        ("Add.\n\nArgs:\n  - x: the x\n  * `y` (int): the y", "Add.", {"x": "the x", "y": "the y"}),
        (
            "Add.\n\nArgs:\n    x:\n        the x\n\n        and more",
            "Add.",
            {"x": "the x and more"},
        ),
        (
            "Add.\n\nArgs:\n    x: the x\n    goes on\n    y: the y",
            "Add.",
            {"x": "the x goes on", "y": "the y"},
        ),
        (
            "Add.\n\nArgs:\n    note: a note\n    returns:\n        odd",
            "Add.",
            {"note": "a note", "returns": "odd"},
        ),
        ("Add.\n\nKeyword Args:\n    x: the x", "Add.", {"x": "the x"}),
        ("Add.\n\nargs:\n    x (dict[str, tuple(int, int)]): the x", "Add.", {"x": "the x"}),
        ("Add.\nReturns: the sum", "Add.", {}),
        ("Add.\n\nArgs:\n    x:the x", "Add.", {"x": "the x"}),
        (
            "加法。\n\nArgs:\n    城市: 城市名\n    b: 第二个数",
            "加法。",
            {"城市": "城市名", "b": "第二个数"},
        ),
        ("加法。\n\nArgs:\n    城市：城市名", "加法。", {"城市": "城市名"}),
        ("Add.\n\n:param x: the x\n:return: y", "Add.", {"x": "the x"}),
        (":func:`add` adds.\n\n:param x: the x", ":func:`add` adds.", {"x": "the x"}),
        ("Add.\n\n  :param x: the x\n  :param y: the y", "Add.", {"x": "the x", "y": "the y"}),
        (
            "Add.\n\n:param x: the x\n:param y the y\n:raises: z",
            "Add.",
            {"x": "the x", "y": "the y"},
        ),
        ("Add.\n\n:param x: the x\n\nThe end.", "Add.\n\nThe end.", {"x": "the x"}),
        ("Add.\n\n@param x: the x\n@param y", "Add.", {"x": "the x"}),
        ("Add.\n\n**Args**:\n    x: the x", "Add.", {"x": "the x"}),
        ("查天气。\n\n参数：\n    城市：城市名\n返回：\n    温度", "查天气。", {"城市": "城市名"}),
        ("Add.\nParameters\n----------\nx, y : int\n    both", "Add.", {"x": "both", "y": "both"}),
        ("Add.\n\nParameters:\n-----------\nx: int\n    the x", "Add.", {"x": "the x"}),
        ("Add.\n\nRaises:\n    ValueError: never\n\nLast words.", "Add.\n\nLast words.", {}),
    ],
)
def test_irregular_docstrings_are_read(
    text: str | None, description: str, parameters: dict[str, str]
) -> None:
    read = docstring.read_docstring(text)
    assert (read.description, read.parameters) == (description, parameters)
