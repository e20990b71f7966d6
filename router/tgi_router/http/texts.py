"""Several generations of which only the texts are wanted, for the routes of platforms."""

from collections.abc import Sequence

from tgi_router.http.answers import gather, split_best
from tgi_router.http.services import Services
from tgi_router.http.start import counting_refusals, start_members
from tgi_router.validation.request import UncheckedRequest
from tgi_router.validation.rules import check_single_answer


async def generate_texts(services: Services, requests: Sequence[UncheckedRequest]) -> list[str]:
    """Run requests side by side; the generated text of each, in their order.

    Raises:
        ValidationError, RequestTooLargeError: one of them breaks a rule.
        OverloadedError: there is no room for all of them.
        InferenceError: one of them failed.
    """
    for request in requests:
        check_single_answer(request.parameters, services.validator.limits)
    with services.inference.acquire(sum(request.member_count for request in requests)) as permit:
        with counting_refusals(services, permit):
            groups = [
                await start_members(services, permit, request, request.member_count) for request in requests
            ]
        texts = []
        for members in groups:
            best, _ = split_best([await gather(*member) for member in members])
            texts.append(best.end.generated_text)
        return texts
