"""What planning, launching and quantizing refuse or fail at.

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

from agentcall_server.errors import ServerError


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
