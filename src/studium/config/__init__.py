"""What the user chose: one YAML file, a little environment, and the command line, as frozen dataclasses.

`load_config` is the way in and works without any file. Secrets never stand in the file: it names the
environment variables that hold them.
"""

from studium.config.loading import (
    DEFAULT,
    DEFAULT_WORKSPACE,
    FILE_NAME,
    SERVER_FILE,
    WORKSPACE_VARIABLE,
    Config,
    leaves,
    load_config,
)
from studium.config.schema import (
    COMPLEXITIES,
    ComplexityLimits,
    DeviceConfig,
    EngineConfig,
    EnsembleConfig,
    FleetConfig,
    LogConfig,
    ModelConfig,
    PriceConfig,
    SamplingConfig,
    ServerConfig,
    StudentConfig,
)

__all__ = [
    "COMPLEXITIES",
    "DEFAULT",
    "DEFAULT_WORKSPACE",
    "FILE_NAME",
    "SERVER_FILE",
    "WORKSPACE_VARIABLE",
    "ComplexityLimits",
    "Config",
    "DeviceConfig",
    "EngineConfig",
    "EnsembleConfig",
    "FleetConfig",
    "LogConfig",
    "ModelConfig",
    "PriceConfig",
    "SamplingConfig",
    "ServerConfig",
    "StudentConfig",
    "leaves",
    "load_config",
]
