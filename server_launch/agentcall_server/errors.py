"""Every error of agentcall_server.

    ServerError
    ├── UnknownModel         a name that no catalogue entry has, or a path where nothing is
    ├── DownloadError
    │   ├── NotEnoughSpace   the disk cannot hold the file
    │   ├── SourceFailed     one source could not give the file (caught; the next one is tried)
    │   │   ├── SourceSilent the source did not answer in time
    │   │   └── WrongBytes   the file that came is not the file that was meant
    │   └── SourcesFailed    no source is left
    ├── ProxyError           LMDeploy's proxy does not run, or is none
    │   └── NodeError        a node that cannot be added or removed
    ├── LaunchError
    │   ├── PortTaken        another program listens there
    │   ├── NameTaken        a server of that name runs already, with other options
    │   ├── NotUp            no such server was launched here, or it does not run
    │   └── StartFailed      it ended before it was ready; `diagnosis` has cause and advice
    └── EmbeddedError
        ├── RuntimeMissing   xllamacpp is not installed
        ├── BadModelFile     llama.cpp cannot load the file
        ├── OutOfMemory      the model does not fit into memory
        └── ServerDied       the model server ended for another reason

A message says what was wrong, with what value, and what to do.

What planning, launching and quantizing refuse or fail at.

ServerError
├── PlanError
│   ├── BadValue          a value that means nothing, or two things
│   └── UnknownShape      a model whose memory cannot be computed
├── GpuUnknown            the memory of this machine's GPU cannot be asked
├── NoLMDeploy            LMDeploy is not installed, or cannot do this
└── QuantizeError
    ├── NoRoom            too little disk or memory for it
    └── QuantizeFailed    it ended without a model that can be served
"""

from __future__ import annotations

from agentcall_server.diagnosis import Diagnosis


class ServerError(Exception):
    """Base of all errors of agentcall_server."""


class UnknownModelName(ServerError):
    """No catalogue entry has this name, or no file is at this path."""


class DownloadError(ServerError):
    """A model file could not be brought to this machine."""


class NotEnoughSpace(DownloadError):
    """The disk of the cache cannot hold the file."""


class SourceFailed(DownloadError):
    """One source could not give the file."""


class SourceTimeout(SourceFailed):
    """One source did not answer in time."""


class AllSourcesFailed(DownloadError):
    """Every source failed; the message lists each with its reason."""


class HashMismatch(SourceFailed):
    """The SHA-256 differs from what was expected."""


class ProxyError(ServerError):
    """LMDeploy's proxy does not run or does not answer, or something else answers."""


class NodeError(ProxyError):
    """A node of the proxy cannot be added or removed."""


class LaunchError(ServerError):
    """A server could not be launched, found or stopped."""


class PortTaken(LaunchError):
    """Another program listens on the port."""


class NameTaken(LaunchError):
    """A server of that name runs already, with other options."""


class ServerNotRunning(LaunchError):
    """No such server was launched here, or it does not run."""


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
    """The server process ended; the message holds the last lines of its log."""


class PlanError(ServerError):
    """A plan cannot be made of what was given."""


class BadValue(PlanError):
    """A value that means nothing here, or two things."""


class UnknownArchitecture(PlanError):
    """The model's memory cannot be computed from what is known of it."""


class GPUUnknown(ServerError):
    """The memory of this machine's GPU cannot be asked."""


class LMDeployUnavailable(ServerError):
    """LMDeploy is not installed, or this version of it cannot do this."""


class QuantizeError(ServerError):
    """A model could not be quantized."""


class InsufficientResources(QuantizeError):
    """The disk or the memory is too small."""


class QuantizeFailed(QuantizeError):
    """It ended without a model that can be served."""
