"""Every error of agentcall_server.

    ServerError
    ├── UnknownModelName          no catalogue entry has the name, or no file is at the path
    ├── LMDeployUnavailable       LMDeploy is not installed, or this version cannot do this
    ├── GPUUnknown                the memory of this machine's GPU cannot be queried
    ├── PlanError
    │   ├── BadValue              a value that is invalid or ambiguous
    │   └── UnknownArchitecture   a model whose memory cannot be computed
    ├── DownloadError
    │   ├── NotEnoughSpace        the disk cannot hold the file
    │   ├── SourceFailed          one source could not provide the file (caught; the next is tried)
    │   │   ├── SourceTimeout     the source did not answer in time
    │   │   └── HashMismatch      the file is not the expected one
    │   └── AllSourcesFailed      no source is left
    ├── LaunchError
    │   ├── PortTaken             another program listens on the port
    │   ├── NameTaken             a server of that name runs already, with other options
    │   ├── ServerNotRunning      no such server was launched here, or it is not running
    │   └── StartFailed           it ended before it was ready; `diagnosis` has cause and advice
    ├── EmbeddedError
    │   ├── RuntimeMissing        xllamacpp is not installed
    │   ├── BadModelFile          llama.cpp cannot load the file
    │   ├── OutOfMemory           the model does not fit into memory
    │   └── ServerDied            the model server ended for another reason
    ├── ProxyError                LMDeploy's proxy is not running, or something else answers
    │   └── NodeError             a node that cannot be added or removed
    └── QuantizeError
        ├── InsufficientResources the disk or the memory is too small
        └── QuantizeFailed        it ended without a model that can be served

A message says what was wrong, with which value, and what to do.
"""

from __future__ import annotations

from agentcall_server.diagnosis import Diagnosis


class ServerError(Exception):
    """Base class of all errors of agentcall_server."""


class UnknownModelName(ServerError):
    """No catalogue entry has this name, or no file is at this path."""


class LMDeployUnavailable(ServerError):
    """LMDeploy is not installed, or the installed version cannot do this."""


class GPUUnknown(ServerError):
    """The memory of this machine's GPU cannot be queried."""


class PlanError(ServerError):
    """No plan can be made from the given values."""


class BadValue(PlanError):
    """A value that is invalid or ambiguous here."""


class UnknownArchitecture(PlanError):
    """The memory of the model cannot be computed from its configuration."""


class DownloadError(ServerError):
    """A model file could not be downloaded."""


class NotEnoughSpace(DownloadError):
    """The disk of the cache cannot hold the file."""


class SourceFailed(DownloadError):
    """One source could not provide the file."""


class SourceTimeout(SourceFailed):
    """One source did not answer in time."""


class HashMismatch(SourceFailed):
    """The SHA-256 of the file is not the expected one."""


class AllSourcesFailed(DownloadError):
    """Every source failed; the message lists each with its reason."""


class LaunchError(ServerError):
    """A server could not be launched, found or stopped."""


class PortTaken(LaunchError):
    """Another program listens on the port."""


class NameTaken(LaunchError):
    """A server of that name runs already, with other options."""


class ServerNotRunning(LaunchError):
    """No such server was launched here, or it is not running."""


class StartFailed(LaunchError):
    """The server ended before it was ready."""

    def __init__(self, message: str, diagnosis: Diagnosis) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


class EmbeddedError(ServerError):
    """The embedded model server could not be started or has ended."""


class RuntimeMissing(EmbeddedError):
    """The package that runs the model is not installed."""


class BadModelFile(EmbeddedError):
    """llama.cpp cannot load the file."""


class OutOfMemory(EmbeddedError):
    """The model does not fit into memory."""


class ServerDied(EmbeddedError):
    """The server process ended; the message contains the last lines of its log."""


class ProxyError(ServerError):
    """LMDeploy's proxy is not running or does not answer, or something else answers."""


class NodeError(ProxyError):
    """A node of the proxy cannot be added or removed."""


class QuantizeError(ServerError):
    """A model could not be quantized."""


class InsufficientResources(QuantizeError):
    """The disk or the memory is too small."""


class QuantizeFailed(QuantizeError):
    """Quantization ended without a model that can be served."""
