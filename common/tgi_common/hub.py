"""Finds a model's files: a local folder, the bundled model, or a repository of the Hugging Face Hub."""

import errno
import glob
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tgi_common.model_files import (
    WEIGHT_FORMATS,
    MissingWeightsError,
    ModelFilesError,
    find_index_name,
    find_weight_files,
    read_index,
    select_config_names,
    select_weight_names,
)
from tgi_common.progress import NoProgress, Progress

BUNDLED_MODEL_ID = "tgi-demo"
"""Names the demo model that comes with the package; the default of every command."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_STORAGE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}
# requests' transport errors are OSErrors; httpx's are not. Which of them the Hub client rides on depends on
# its version: its HTTP error derives from that one's. The client's accelerators raise plain RuntimeErrors.
_TRANSPORT_ERRORS: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0], RuntimeError)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class ModelNotFoundError(ModelFilesError):
    """There is no such folder, repository or revision."""


class ModelAccessError(ModelFilesError):
    """The Hub refuses the model to this token, or to a request without one."""


class HubUnreachableError(ModelFilesError):
    """The Hub does not answer, or must not be asked, and the cache does not hold the files."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Which model, and from where.

    Attributes:
        model_id: a folder, `tgi-demo`, or a Hub id such as `org/name`.
        revision: branch, tag, commit or `refs/pr/N` of a Hub model; `main` if None.
        token: Hub token; the one saved by `hf auth login` if None.
        cache_dir: the Hub cache; huggingface_hub's own default if None.
        weights_cache_override: a folder that holds the weight files, whatever the model id says.
        offline: use what the cache holds and ask nobody.
        endpoint: address of the Hub; huggingface_hub's own default if None.
    """

    model_id: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    weights_cache_override: Path | None = None
    offline: bool = False
    endpoint: str | None = None

    @classmethod
    def from_environment(
        cls, model_id: str, revision: str | None, environment: Mapping[str, str]
    ) -> "ModelSource":
        """Read the rest from the variables that TGI and huggingface_hub define."""
        cache_dir = environment.get("HUGGINGFACE_HUB_CACHE")
        override = environment.get("WEIGHTS_CACHE_OVERRIDE")
        token = environment.get("HF_API_TOKEN") or environment.get("HF_TOKEN") or ""
        return cls(
            model_id=model_id,
            revision=revision,
            token=token.strip() or None,
            cache_dir=Path(cache_dir).expanduser() if cache_dir else None,
            weights_cache_override=Path(override).expanduser() if override else None,
            offline=environment.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"},
            endpoint=environment.get("HF_ENDPOINT") or None,
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """How often the Hub is asked before giving up, and how long in between (as TGI: 5 tries, 5 s apart)."""

    attempts: int = 5
    seconds: float = 5.0
    sleep: Callable[[float], None] = time.sleep


def local_folder(source: ModelSource) -> Path | None:
    """The folder of a model that is on this machine by itself; None for a Hub id.

    Raises:
        ModelNotFoundError: the id can only be a path, and there is no folder.
    """
    if source.model_id == BUNDLED_MODEL_ID:
        from tgi_demo import MODEL_PATH

        return MODEL_PATH
    path = Path(source.model_id).expanduser()
    if source.model_id and path.is_dir():
        return path
    if path.is_file():
        raise ModelNotFoundError(f"{source.model_id} is a file; give the folder that holds the model")
    if source.model_id.startswith(("/", "./", "../", "~")) or source.model_id.count("/") > 1:
        raise ModelNotFoundError(f"{source.model_id} is not a folder")
    if not _HUB_ID.fullmatch(source.model_id):
        raise ModelNotFoundError(f"{source.model_id!r} is neither a folder nor a Hub id (org/name)")
    return None


def fetch_config_files(source: ModelSource, retry: Retry | None = None) -> Path:
    """Folder with the model's config, tokenizer and templates; from the Hub only these are downloaded.

    Raises:
        ModelFilesError: the model is not there, not allowed, or out of reach.
    """
    if (folder := local_folder(source)) is not None:
        return folder

    def download() -> Path:
        return _download(source, select_config_names(_list_names(source)), NoProgress)

    return _fetch(source, download, retry)


def fetch_weights(
    source: ModelSource,
    progress: Progress | None = None,
    retry: Retry | None = None,
    formats: Sequence[str] = WEIGHT_FORMATS,
) -> Path:
    """Folder with the model's weight files; from the Hub only those of the first format it has.

    Args:
        source: which model.
        progress: shows the download; huggingface_hub's own bars (on a terminal) if None.
        retry: how stubbornly to try.
        formats: the suffixes looked for, best first.

    Raises:
        ModelFilesError: the model is not there, not allowed, has no weights, or is out of reach.
    """
    if (override := source.weights_cache_override) is not None:
        if not override.is_dir():
            raise ModelNotFoundError(f"the weights cache override {override} is not a folder")
        return override
    if (folder := local_folder(source)) is not None:
        return folder
    folder = _fetch(source, lambda: _download(source, _weight_names(source, formats), progress), retry)
    if not any(find_weight_files(folder, suffix) for suffix in formats):
        raise MissingWeightsError(f"the cached copy of {source.model_id} in {folder} holds no weights")
    return folder


def _fetch(source: ModelSource, download: Callable[[], Path], retry: Retry | None) -> Path:
    if source.offline:
        return _cached(source)
    try:
        return _try_repeatedly(source, download, retry or Retry())
    except HubUnreachableError as error:
        try:
            folder = _cached(source)
        except HubUnreachableError:
            raise error from None
        _log.warning(f"{error}; using the cached copy in {folder}")
        return folder


def _try_repeatedly(source: ModelSource, call: Callable[[], _T], retry: Retry) -> _T:
    """Only what may pass by itself is tried again: a lost connection, a server's error."""
    for attempt in range(1, retry.attempts + 1):
        try:
            return call()
        except _TRANSPORT_ERRORS as error:
            failure = _explain(source, error)
            if not isinstance(failure, HubUnreachableError) or attempt == retry.attempts:
                raise failure from None
            _log.warning(f"{failure}; trying again in {retry.seconds:g} s ({attempt} of {retry.attempts})")
            retry.sleep(retry.seconds)
    raise AssertionError("a Retry has at least one attempt")


def _explain(source: ModelSource, error: Exception) -> ModelFilesError:
    """The Hub client's error in one line that says what to do."""
    name = source.model_id
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        hint = "your token has no access to it" if source.token else "set HF_TOKEN to a token with access"
        return ModelAccessError(f"the model {name} is gated: {hint}")
    if isinstance(error, RepositoryNotFoundError):
        hint = "" if source.token else " (if it is private, set HF_TOKEN)"
        return ModelNotFoundError(f"{name} is neither a folder nor a model of the Hub{hint}")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"the model {name} has no revision {source.revision!r}")
    if status in {401, 403}:
        return ModelAccessError(f"the Hub refuses access to {name}: check HF_TOKEN")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        return ModelFilesError(f"the files of {name} cannot be stored: {reason}")
    return HubUnreachableError(f"the Hub cannot be reached for {name}: {reason}")


def _list_names(source: ModelSource) -> list[str]:
    api = HfApi(endpoint=source.endpoint, token=source.token)
    info = api.model_info(source.model_id, revision=source.revision, timeout=10.0)
    return [sibling.rfilename for sibling in info.siblings or []]


def _weight_names(source: ModelSource, formats: Sequence[str]) -> list[str]:
    names = _list_names(source)
    for suffix in formats:
        if (index := find_index_name(names, suffix)) is not None:
            return [index, *read_index(_download(source, [index], NoProgress) / index)]
        if selected := select_weight_names(names, suffix):
            return selected
    raise MissingWeightsError(f"the model {source.model_id} has no weights: no {' or '.join(formats)} files")


def _download(source: ModelSource, names: list[str], progress: Progress | None) -> Path:
    return Path(
        snapshot_download(
            source.model_id,
            revision=source.revision,
            cache_dir=source.cache_dir,
            token=source.token,
            endpoint=source.endpoint,
            allow_patterns=[glob.escape(name) for name in names],
            tqdm_class=progress,
        )
    )


def _cached(source: ModelSource) -> Path:
    """The snapshot that an earlier download left."""
    try:
        folder = snapshot_download(
            source.model_id,
            revision=source.revision,
            cache_dir=source.cache_dir,
            allow_patterns=["config.json"],
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        revision = f" (revision {source.revision})" if source.revision else ""
        raise HubUnreachableError(
            f"the cache does not hold {source.model_id}{revision}, and HF_HUB_OFFLINE forbids to ask the Hub"
        ) from None
    return Path(folder)
