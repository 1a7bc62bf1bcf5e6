"""docs/reference/study.md: every key of a study file, from the models that read it; `python -m tests.docs --write` puts it there.

A key's meaning is the docstring below its field, its type, default and bounds are the field's own.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lago_skills.study import Study

PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
BOUNDS = {
    annotated_types.Ge: "≥ {}",
    annotated_types.Gt: "> {}",
    annotated_types.Le: "≤ {}",
    annotated_types.Lt: "< {}",
}
Model = type[BaseModel]


@dataclass(frozen=True)
class Section:
    """A table of a study file."""

    header: str
    """As the file says it: `[train.sac]`, `[[data]]`; empty for keys above the first table."""
    model: Model
    note: str = ""
    """Which of several forms of the table this is, or what its place in the file means."""


@cache
def meanings(model: Model) -> dict[str, str]:
    """The docstrings below the fields of a model, those that it inherits among them, on one line each."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, [*body.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            said = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            if said or field.target.id not in found:
                found[field.target.id] = " ".join(str(said).split())
    return found


def key_of(name: str, field: FieldInfo) -> str:
    """What a study file calls a field."""
    return field.alias or name


def models_in(annotation: Any) -> list[Model]:
    """The models that a field's annotation names, through lists, dictionaries and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _without_none(annotation: Any) -> Any:
    """The annotation of a field that may be left out, without that."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    is_optional = get_origin(annotation) in (Union, UnionType) and len(parts) == 1
    return parts[0] if is_optional else annotation


def sections(model: Model = Study, path: str = "", header: str = "", note: str = "") -> Iterator[Section]:
    """All tables of a study file, each before those inside it."""
    yield Section(header, model, note)
    for name, field in model.model_fields.items():
        annotation, inner = _without_none(field.annotation), models_in(field.annotation)
        key, origin = f"{path}{key_of(name, field)}", get_origin(annotation)
        for each in inner:
            below = f"{key}.NAME" if origin is dict else key
            shown = f"[[{below}]]" if origin is list else f"[{below}]"
            yield from sections(each, f"{below}.", shown, _form(each) if len(inner) > 1 else "")


def _form(model: Model) -> str:
    """Which of two forms of one table a model is: by the key that only one value of is its."""
    use = model.model_fields.get("use")
    only = get_args(use.annotation) if use is not None and get_origin(use.annotation) is Literal else ()
    return f"with `use = {json.dumps(only[0])}`" if only else "with the name of a world, or a class of one's own"


def type_of(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part is not NoneType]
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        return type_of(parts[0])
    if origin is Literal:
        return " or ".join(f"`{json.dumps(part)}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_of(part) for part in parts))
    if origin is list or (origin is tuple and Ellipsis in parts):
        return f"list of: {type_of(parts[0])}"
    if origin is tuple:
        kinds = [type_of(part) for part in parts]
        return f"{len(kinds)} of: {kinds[0]}" if len(set(kinds)) == 1 else "[" + ", ".join(kinds) + "]"
    if origin is dict:
        return f"table of: {type_of(parts[1])}"
    raise TypeError(f"found a field of type {annotation!r}; expected one that a study file can say; add it to type_of")


def bounds(field: FieldInfo) -> str:
    """What a value has to keep to, beside its type."""
    said: list[str] = []
    for rule in field.metadata:
        if isinstance(rule, annotated_types.MinLen):
            said.append(f"at least {rule.min_length}" + (" characters" if field.annotation is str else ""))
        elif isinstance(rule, annotated_types.MaxLen):
            said.append(f"at most {rule.max_length} characters")
        elif (pattern := getattr(rule, "pattern", None)) is not None:
            said.append(f"`{pattern}`")
        else:
            name = {
                annotated_types.Ge: "ge",
                annotated_types.Gt: "gt",
                annotated_types.Le: "le",
                annotated_types.Lt: "lt",
            }
            said += [
                BOUNDS[kind].format(_number(getattr(rule, attribute)))
                for kind, attribute in name.items()
                if isinstance(rule, kind)
            ]
    return ", ".join(said)


def _number(value: Any) -> str:
    return f"{value:,}".replace(",", "_") if isinstance(value, int) else f"{value:g}"


def default_of(field: FieldInfo) -> str:
    """What stands for a key that a file leaves out; `required` where nothing does."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", [], {}, ()):
        return "none"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        listed: list[Any] = [*value]
        return "[" + ", ".join(_toml(each) for each in listed) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(value)
    return json.dumps(value)


def rows(section: Section) -> Iterator[str]:
    """A line of the section's table for each key that is no table itself."""
    said = meanings(section.model)
    for name, field in section.model.model_fields.items():
        if models_in(field.annotation) or field.exclude:
            continue
        kind = type_of(_without_none(field.annotation)) + (f"; {limits}" if (limits := bounds(field)) else "")
        cells = (f"`{key_of(name, field)}`", kind, default_of(field), said[name])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The reference in Markdown: a heading and a table for each section."""
    lines: list[str] = []
    shown: dict[Model, str] = {}
    for section in sections():
        about = " ".join((section.model.__doc__ or "").split())
        title = f"`{section.header}`" if section.header else "Above the first table"
        lines += ["", f"## {title}" + (f", {section.note}" if section.note else ""), "", about]
        if first := shown.get(section.model):
            lines += ["", f"The keys of `{first}`."]
            continue
        shown[section.model] = section.header
        if found := list(rows(section)):
            lines += ["", "| key | type | default | meaning |", "|---|---|---|---|", *found]
    return "\n".join(lines[1:])


def unexplained() -> list[str]:
    """Keys without a docstring, as `SACConfig.gamma`."""
    return sorted(
        {
            f"{section.model.__name__}.{name}"
            for section in sections()
            for name, field in section.model.model_fields.items()
            if not meanings(section.model)[name] and not field.exclude and not models_in(field.annotation)
        }
    )
