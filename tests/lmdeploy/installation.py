"""The LMDeploy versions of these tests, each in a virtual environment of its own.

LMDeploy declares CUDA packages that its HTTP layer never imports, so it is installed without its
dependencies, beside the ones that the HTTP layer needs.
"""

from pathlib import Path

from environments import Environment, Say, python_of

SHARED = (
    *("torch==2.13.0", "einops", "fastapi", "fire", "mmengine-lite", "packaging", "pillow"),
    *("protobuf", "psutil", "pydantic>=2", "requests", "safetensors", "sentencepiece"),
    *("shortuuid", "tiktoken", "uvicorn"),
)
INSTALLATIONS = {
    environment.name.removeprefix("lmdeploy-"): environment
    for environment in (
        Environment(
            "lmdeploy-0.18.0",
            ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14)),
            (
                *(*SHARED, "transformers==5.23.0", "openai>=2.45", "numpy", "aiohttp"),
                *("apache-tvm-ffi>=0.1.11", "cloudpickle", "openai_harmony", "pybase64"),
                *("partial_json_parser", "prometheus_client", "pyzmq"),
            ),
            ("lmdeploy==0.18.0", "xgrammar==0.2.8"),
        ),
        Environment(
            "lmdeploy-0.5.3",
            ((3, 10), (3, 11), (3, 12)),
            (
                *(*SHARED, "transformers==4.44.2", "openai==1.40.3", "httpx<0.28"),
                *("accelerate==0.33.0", "numpy<2", "pynvml"),
            ),
            ("lmdeploy==0.5.3",),
        ),
    )
}


def python_with(version: str, say: Say) -> Path:
    """The interpreter of an environment with this LMDeploy, which is made when there is none.

    Raises NoInterpreterError, InstallationError."""
    return python_of(INSTALLATIONS[version], say)
