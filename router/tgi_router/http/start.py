"""The way from a prompt to running generations, with refusals counted; the same for every route."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.generation import OverloadedError, ValidRequest
from tgi_router.http.services import Services
from tgi_router.infer import GenerationStream, Permit
from tgi_router.schema.numbers import SEED_MAX
from tgi_router.text.conversation import TemplateError
from tgi_router.validation.refusal import ValidationError
from tgi_router.validation.request import UncheckedRequest

_REASONS = (
    (ValidationError, "validation"),
    (RequestTooLargeError, "validation"),
    (TemplateError, "template"),
    (OverloadedError, "overloaded"),
)

Started = tuple[ValidRequest, GenerationStream]


async def start(services: Services, permit: Permit, request: UncheckedRequest) -> Started:
    """Check a request and queue it.

    Raises:
        ValidationError: the request breaks a rule.
        RequestTooLargeError: it could never run.
        OverloadedError: too many texts wait to be tokenized.
    """
    valid = await services.validator.validate(request)
    return valid, services.inference.stream(permit, valid)


async def start_members(
    services: Services, permit: Permit, request: UncheckedRequest, count: int
) -> list[Started]:
    """Check a request once and queue `count` generations of it, with seeds of their own.

    Where the request names a seed, the others count on from it, so that all of them can be had again.

    Raises:
        ValidationError, RequestTooLargeError, OverloadedError: as `start`.
    """
    first = await start(services, permit, request)
    members = [first]
    seed = request.parameters.seed
    for place in range(1, count):
        valid = first[0]
        own_seed = secrets.randbits(64) if seed is None else (seed + place) & SEED_MAX
        other = replace(valid, parameters=replace(valid.parameters, seed=own_seed))
        members.append((other, services.inference.stream(permit, other)))
    return members


@contextmanager
def counting_refusals(services: Services, permit: Permit) -> Iterator[None]:
    """Count what is refused inside the block in the metrics, by reason."""
    try:
        yield
    except Exception as error:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
        if reason is not None:
            permit.failed(reason)
            services.metrics.request_refused.labels(reason).inc()
        raise
