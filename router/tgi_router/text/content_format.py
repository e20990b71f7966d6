"""Whether a chat template reads a message's content as a text or as a list of parts.

Templates do not declare it. As in vLLM, it is taken from what they do: one that loops over the content wants
parts.
"""

from enum import Enum, auto

from jinja2 import nodes

_OVER_ITEMS = {"map", "select", "selectattr", "reject", "rejectattr"}


class ContentFormat(Enum):
    """What a template makes sense of."""

    TEXT = auto()
    PARTS = auto()
    EITHER = auto()


def content_format(template: nodes.Template) -> ContentFormat:
    """What the template reads: parts if it loops over content, either if it asks whether that is a text."""
    content = _ContentNames(template)
    looped = any(content.is_content(iterable) for iterable in _iterables(template))
    if not looped:
        return ContentFormat.TEXT
    asks = any(
        test.name in {"string", "iterable", "sequence", "mapping"} and content.is_content(test.node)
        for test in template.find_all(nodes.Test)
    )
    return ContentFormat.EITHER if asks else ContentFormat.PARTS


def _iterables(template: nodes.Template) -> list[nodes.Node | None]:
    """What the template loops over, by a statement, a filter, or looking at a field of an item."""
    loops: list[nodes.Node | None] = [loop.iter for loop in template.find_all(nodes.For)]
    loops += [node.node for node in template.find_all(nodes.Filter) if node.name in _OVER_ITEMS]
    for item in template.find_all(nodes.Getitem):
        match item:
            case nodes.Getitem(node=nodes.Getitem(arg=nodes.Const(value=0 | -1)) as inner):
                loops.append(inner.node)
    for attribute in template.find_all(nodes.Getattr):
        match attribute:
            case nodes.Getattr(node=nodes.Getitem(arg=nodes.Const(value=0 | -1)) as inner):
                loops.append(inner.node)
    return loops


class _ContentNames:
    """The names that stand for a message's content: variables it is set to, parameters it is passed as."""

    def __init__(self, template: nodes.Template) -> None:
        self._names: set[str] = set()
        macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
        known = -1
        while known < len(self._names):  # a name may be set to one that is found later
            known = len(self._names)
            for assignment in template.find_all(nodes.Assign):
                if isinstance(assignment.target, nodes.Name) and self.is_content(assignment.node):
                    self._names.add(assignment.target.name)
            for call in template.find_all(nodes.Call):
                macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
                if macro is not None:
                    self._pass(call, macro)

    def is_content(self, node: nodes.Node | None) -> bool:
        """Whether an expression is a message's content, filtered or a slice of it included."""
        match node:
            case nodes.Name():
                return node.name in self._names
            case nodes.Getattr():
                return node.attr == "content"
            case nodes.Getitem(arg=nodes.Const(value="content")):
                return True
            case nodes.Getitem(arg=nodes.Slice()) | nodes.Filter():
                return self.is_content(node.node)
            case nodes.CondExpr():
                return self.is_content(node.expr1) or self.is_content(node.expr2)
        return False

    def _pass(self, call: nodes.Call, macro: nodes.Macro) -> None:
        pairs = [(parameter.name, value) for parameter, value in zip(macro.args, call.args, strict=False)]
        pairs += [(keyword.key, keyword.value) for keyword in call.kwargs]
        self._names |= {name for name, value in pairs if self.is_content(value)}
