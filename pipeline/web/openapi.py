"""OpenAPI 3.1 of an application, from what its handlers say of themselves.

`@described` stands beside a handler and holds what routes and types cannot tell. `document` walks the routes
of an application, so a route is in the document once its handler is described, and gone with it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

_OPERATION = "openapi_operation"
_METHODS = "openapi_methods"
_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)\}")

Access = Literal["job token", "admin token", "API key"]
_SCHEMES: dict[Access, dict[str, dict[str, str]]] = {
    "job token": {
        "jobToken": {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "As the links carry it.",
        },
        "jobBearer": {"type": "http", "scheme": "bearer", "description": "The same token in a header."},
    },
    "admin token": {
        "adminToken": {"type": "http", "scheme": "bearer", "description": "CORESTREAM_ADMIN_TOKEN."},
    },
    "API key": {
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "Only where the installation asks for keys.",
        },
    },
}

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class Problem(BaseModel):
    """An error (RFC 9457). docs/errors.md lists the codes."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was expected, what was received, what to do.")
    code: str = Field(description="Stable, for scripts.")


@dataclass(frozen=True)
class Header:
    """A header of a request.

    Attributes:
        description: What it says.
        required: Whether it must be there.
        pattern: Of its value, a regular expression.
    """

    description: str
    required: bool = False
    pattern: str | None = None


@dataclass(frozen=True)
class Operation:
    """What a handler does, for its clients.

    Attributes:
        summary: In a few words.
        tag: The group it stands in.
        answers: By status: the type of the JSON, a content type that is not JSON, or None for no body.
        problems: Statuses of its refusals.
        body: By content type: the type of the JSON or form, or None for bytes.
        headers: Of the request.
        query: Parameters of the query: their JSON schemas.
        access: What it asks for; the API key only where the installation does.
    """

    summary: str
    tag: str
    answers: Mapping[int, Any]
    problems: tuple[int, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    access: Access | None = None


def described(operation: Operation) -> Callable[[HandlerT], HandlerT]:
    """Attach what a handler does to it."""

    def attach(handler: HandlerT) -> HandlerT:
        vars(handler)[_OPERATION] = operation
        return handler

    return attach


def by_method(handler: Callable[..., Any], handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Say of a handler of any method to which others it gives them."""
    vars(handler)[_METHODS] = handlers


def operations(app: web.Application) -> Iterator[tuple[str, str, Operation | None, str]]:
    """Give every route: path, method, what is said of it, and the docstring of its handler."""
    for route in app.router.routes():
        if route.resource is None or isinstance(route.resource, web.StaticResource):
            continue
        path = route.resource.canonical
        several: Mapping[str, Callable[..., Any]] = vars(_function(route.handler)).get(
            _METHODS, {route.method: route.handler}
        )
        for method, handler in several.items():
            if method != "HEAD" or route.method == "*":  # aiohttp answers HEAD wherever it answers GET
                function = _function(handler)
                yield path, method, vars(function).get(_OPERATION), inspect.getdoc(function) or ""


def _function(handler: Any) -> Any:  # noqa: ANN401 - a function, or one that is bound to an object
    return getattr(handler, "__func__", handler)


def document(app: web.Application, *, title: str, version: str, description: str) -> dict[str, Any]:
    """Return the OpenAPI document of an application's described routes.

    Args:
        app: With all its routes.
        title: Of the interface.
        version: Of the interface.
        description: What it is.
    """
    found = [each for each in operations(app) if each[2] is not None]
    schemas = _Schemas([operation for _, _, operation, _ in found if operation])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation, doc in found:
        if operation is not None:
            paths.setdefault(path, {})[method.lower()] = _operation(path, operation, doc, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {
                name: scheme for group in _SCHEMES.values() for name, scheme in group.items()
            },
        },
    }


class _Schemas:
    """The JSON schemas of all types that operations name, each as it is read or written."""

    def __init__(self, operations: list[Operation]) -> None:
        inputs: list[tuple[Any, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
            (("written", Problem), "serialization", TypeAdapter(Problem))
        ]
        for operation in operations:
            inputs += [
                (("read", kind), "validation", TypeAdapter(kind))
                for kind in operation.body.values()
                if kind is not None
            ]
            inputs += [
                (("written", kind), "serialization", TypeAdapter(kind))
                for kind in operation.answers.values()
                if kind is not None and not isinstance(kind, str)
            ]
        self._by_type, rest = TypeAdapter.json_schemas(inputs, ref_template=_REF)
        self.definitions: dict[str, Any] = rest.get("$defs", {})

    def read(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - any type
        """Return the schema of a request's body."""
        return self._by_type[("read", kind), "validation"]

    def written(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - any type
        """Return the schema of an answer."""
        return self._by_type[("written", kind), "serialization"]


def _operation(path: str, operation: Operation, doc: str, schemas: _Schemas) -> dict[str, Any]:
    parts = doc.split("\n\n")
    about = "\n\n".join(part for part in parts[:2] if not part.startswith(("Raises:", "Args:", "Returns:")))
    built: dict[str, Any] = {
        "summary": operation.summary,
        "description": about,
        "tags": [operation.tag],
        "responses": _responses(operation, schemas),
    }
    if parameters := _parameters(path, operation):
        built["parameters"] = parameters
    if operation.body:
        content = {
            kind: {
                "schema": schemas.read(model) if model is not None else {"type": "string", "format": "binary"}
            }
            for kind, model in operation.body.items()
        }
        built["requestBody"] = {"required": None not in operation.body.values(), "content": content}
    if operation.access is not None:
        ways: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES[operation.access]]
        built["security"] = ways if operation.access != "API key" else [*ways, {}]
    return built


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(path)
    ]
    for name, schema in operation.query.items():
        parameters.append({"name": name, "in": "query", "required": False, "schema": schema})
    for name, header in operation.headers.items():
        schema = {"type": "string"} | ({"pattern": header.pattern} if header.pattern else {})
        parameters.append(
            {
                "name": name,
                "in": "header",
                "required": header.required,
                "description": header.description,
                "schema": schema,
            }
        )
    return parameters


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 460 is of tus, not of HTTP
        return "Checksum mismatch"


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in operation.answers.items():
        answer: dict[str, Any] = {"description": _phrase(status)}
        if isinstance(kind, str):
            answer["content"] = {kind: {"schema": {"type": "string"}}}
        elif kind is not None:
            answer["content"] = {"application/json": {"schema": schemas.written(kind)}}
        responses[str(status)] = answer
    problem = {"application/problem+json": {"schema": schemas.written(Problem)}}
    for status in operation.problems:
        responses[str(status)] = {"description": _phrase(status), "content": problem}
    return responses
