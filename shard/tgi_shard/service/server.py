"""The gRPC server on a Unix socket: start, errors as status codes, graceful stop."""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection

from tgi_common.sockets import MAX_SOCKET_PATH, fits_socket_path
from tgi_proto import generate_pb2, generate_pb2_grpc
from tgi_shard.service.handlers import RequestsFailedError, TextGenerationService

log = structlog.get_logger(__name__)

SERVICE_NAME = generate_pb2.DESCRIPTOR.services_by_name["TextGenerationService"].full_name
STOP_GRACE_SECONDS = 5.0

# TGI's limits: any answer may leave, requests up to what fits an int32 may come in.
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
]


class LostRanksError(RuntimeError):
    """No more steps can be computed with the other ranks."""


class SocketPathError(ValueError):
    """The Unix socket cannot be created where it was asked for."""


def socket_url(uds_path: str, rank: int) -> str:
    """The address of a rank, as TGI forms it."""
    return f"unix://{uds_path}-{rank}"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers an exception as a status with its text: bad requests as such, all else as internal errors."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap unary handlers; streams (reflection) pass as they are."""
        handler = await continuation(handler_call_details)
        inner: Any = handler.unary_unary if handler is not None else None
        if handler is None or inner is None:
            return handler
        read: Any = handler.request_deserializer

        async def guarded(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> object:
            try:
                return await inner(read(message), context)
            except (DecodeError, ValueError) as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except RequestsFailedError as error:
                await context.abort(grpc.StatusCode.INTERNAL, str(error))
            except Exception as error:
                log.error(f"call failed: {type(error).__name__}: {error}", method=handler_call_details.method)
                log.debug("where it failed", exc_info=True)
                await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=None,  # read above: grpc logs a traceback for bytes that are no message
            response_serializer=handler.response_serializer,
        )


async def serve(service: TextGenerationService, url: str) -> None:
    """Answer calls on `url` until SIGTERM or SIGINT, then let running calls finish; gRPC removes the socket.

    Raises:
        LostRanksError: this rank and the others have lost each other. The launcher ends them all.
        SocketPathError: the path is too long, or its folder is not writable.
    """
    path = Path(url.removeprefix("unix://"))
    if not fits_socket_path(path):
        raise SocketPathError(
            f"the socket path {path} is longer than {MAX_SOCKET_PATH} bytes; choose a shorter one"
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=CHANNEL_OPTIONS)
    generate_pb2_grpc.add_TextGenerationServiceServicer_to_server(service, server)
    reflection.enable_server_reflection([SERVICE_NAME, reflection.SERVICE_NAME], server)
    old_mask = os.umask(0o177)  # the socket is for this user alone
    try:
        server.add_insecure_port(url)
    except RuntimeError as error:
        raise SocketPathError(f"cannot listen on {path}: {error}") from None
    finally:
        os.umask(old_mask)
    await server.start()
    log.info("server started", url=url)
    await asyncio.wait(
        [asyncio.ensure_future(event.wait()) for event in (stop, service.lost)],
        return_when=asyncio.FIRST_COMPLETED,
    )
    await server.stop(STOP_GRACE_SECONDS)
    if service.lost.is_set():
        raise LostRanksError("the shards have lost touch with each other; start the server again")
