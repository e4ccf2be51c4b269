"""A TensorRT without a GPU, made from the classes of NVIDIA's real bindings.

The bindings import once the functions that they want of the libraries are there, whatever these
do. Nothing can be built with them, so what builds and runs is a fake: its engines are ONNX files
that onnxruntime executes, those in bfloat16 by their float32 twins. It is strict: every name must
be one of the real class, every call must have as many arguments as the real one says, and what is
read-only there is so here.

Run as a program in an environment that has ``tensorrt_bindings``: builds and runs a bundle and
prints what came of it as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import signal
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import tensorrt_bindings as real
import torch

import waveedge
from waveedge import runtime
from waveedge.errors import WaveedgeError
from waveedge.export.widening import rounded
from waveedge.filetypes import bundle_files
from waveedge.runtime import conditions, cuda, engine_check
from waveedge.runtime.build import build
from waveedge.runtime.bundle import open_bundle
from waveedge.runtime.engine_manifest import read_engine
from waveedge.runtime.memory import measure_here
from waveedge.runtime.race import chosen_engine, race

build_module = import_module("waveedge.runtime.build")

STATE = {"gpu": "Orin", "off": 0.0, "parses": True, "dla": 0, "takes": "Conv"}
"""What the fake shall be: the GPU's name, what engines add to each output, whether graphs parse,
how many DLA cores it has, and which operators these run."""


def strict(kind: type, **members: Any) -> Any:
    """A class with some members of a real one, and no others."""
    for name in members:
        assert name.startswith("__") or hasattr(kind, name), f"{kind.__name__} has no {name}"

    def missing(_: Any, name: str) -> Any:
        if hasattr(kind, name):
            raise NotImplementedError(f"the fake of {kind.__name__} does not know {name}")
        raise AttributeError(f"{kind.__name__} has no {name}")

    def put(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_"):
            found = getattr(kind, name)  # AttributeError: there is no such thing to set
            assert isinstance(found, property), f"{kind.__name__}.{name} is no property"
            assert found.fset is not None, f"{kind.__name__}.{name} is read-only"
        object.__setattr__(self, name, value)

    checked = {
        name: _checked(kind, name, member) if callable(member) else member
        for name, member in members.items()
    }
    return type(kind.__name__, (), {"__getattr__": missing, "__setattr__": put, **checked})


def _checked(kind: type, name: str, method: Any) -> Any:
    if name.startswith("__"):
        return method
    described = getattr(kind, name).__doc__ or ""
    overloads = []
    for found in re.findall(rf"^(?:\d+\. )?{name}\((self.*)\) ->", described, re.MULTILINE):
        words = re.split(r", (?=\w+:)", re.sub(r"\[[^\]]*\]", "", found))[1:]
        overloads.append((sum(" = " not in word for word in words), words))
    assert overloads, f"{kind.__name__}.{name}: {described[:200]}"

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        count = len(arguments) + len(named)
        fits = [
            words
            for least, words in overloads
            if least <= count <= len(words)
            and all(any(word.startswith(f"{key}:") for word in words) for key in named)
        ]
        assert fits, f"{kind.__name__}.{name} takes {overloads}"
        return method(self, *arguments, **named)

    return call


class Memory(bytes):
    """IHostMemory, as far as ``bytes()`` asks of it."""


Cache = strict(real.ITimingCache, serialize=lambda self: Memory(b"measured"))


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        dims = value.type.tensor_type.shape.dim
        self.name = value.name
        self.shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)


def parse(self: Any, model: bytes) -> bool:
    self._network._model = model
    return STATE["parses"]


def layer(self: Any, index: int) -> Any:
    node = onnx.ModelProto.FromString(self._model).graph.node[index]
    found = Layer()
    found._name, found._kind = node.name, node.op_type
    return found


Layer = strict(
    real.ILayer,
    name=property(lambda self: self._name),
    type=property(lambda self: real.LayerType.CONVOLUTION),
)
Network = strict(
    real.INetworkDefinition,
    num_layers=property(lambda self: len(onnx.ModelProto.FromString(self._model).graph.node)),
    get_layer=layer,
    get_input=lambda self, index: Tensor(
        onnx.ModelProto.FromString(self._model).graph.input[index]
    ),
)
Error = strict(real.ParserError, desc=lambda self: "no such operator")
Parser = strict(
    real.OnnxParser,
    __init__=lambda self, network, log: setattr(self, "_network", network),
    parse=parse,
    num_errors=property(lambda self: 1),
    get_error=lambda self, index: Error(),
)
Config = strict(
    real.IBuilderConfig,
    create_timing_cache=lambda self, content: STATE.update(cache=bytes(content)) or Cache(),
    set_timing_cache=lambda self, cache, ignore_mismatch: True,
    get_timing_cache=lambda self: Cache(),
    set_memory_pool_limit=lambda self, pool, size: STATE.update(workspace=size),
    add_optimization_profile=lambda self, profile: 0,
    set_flag=lambda self, flag: STATE.update(flag=str(flag)),
    can_run_on_DLA=lambda self, layer: (
        self.default_device_type == real.DeviceType.DLA and layer._kind == STATE["takes"]
    ),
)
Profile = strict(
    real.IOptimizationProfile,
    set_shape=lambda self, input, min, opt, max: STATE.update(profile=[min, opt, max]),
)


def serialize(self: Any, network: Any, config: Any) -> Memory:
    STATE.update(level=vars(config).get("builder_optimization_level"))
    STATE.update(verbosity=str(config.profiling_verbosity))
    if (monitor := vars(config).get("progress_monitor")) is not None:
        monitor.phase_start("Building", None, 2)
        assert monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
    return Memory(network._model)


Builder = strict(
    real.Builder,
    __init__=lambda self, log: None,
    num_DLA_cores=property(lambda self: STATE["dla"]),
    create_network=lambda self, flags=0: STATE.update(flags=flags) or Network(),
    create_builder_config=lambda self: Config(),
    create_optimization_profile=lambda self: Profile(),
    build_serialized_network=serialize,
)


def _shape(self: Any, name: str) -> tuple[int, ...]:
    return self._shapes.get(name) or tuple(self._outputs()[name].shape)


def _outputs(self: Any) -> dict[str, Any]:
    session = self._session
    feeds = {
        session.get_inputs()[0].name: self._input
        if self._input is not None
        else np.zeros(self._shapes[session.get_inputs()[0].name], np.float32)
    }
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _execute(self: Any, stream_handle: int) -> bool:
    cuda._driver().queue(lambda: _compute(self))
    return True


def _compute(self: Any) -> None:
    name = self._session.get_inputs()[0].name
    shape = self._shapes[name]
    count = int(np.prod(shape))
    source = (ctypes.c_float * count).from_address(self._addresses[name])
    self._input = np.ctypeslib.as_array(source).reshape(shape).copy()
    for output, value in self._outputs().items():
        value = value + np.float32(STATE["off"])
        ctypes.memmove(
            self._addresses[output], np.ascontiguousarray(value).ctypes.data, value.nbytes
        )


Context = strict(
    real.IExecutionContext,
    set_input_shape=lambda self, name, shape: self._shapes.update({name: tuple(shape)}) is None,
    get_tensor_shape=_shape,
    set_tensor_address=lambda self, name, memory: self._addresses.update({name: memory}) is None,
    execute_async_v3=_execute,
)


def _context(self: Any) -> Any:
    context = Context()
    context._session, context._shapes, context._addresses = self._session, {}, {}
    context._input, context._outputs = None, types.MethodType(_outputs, context)
    return context


def _names(self: Any) -> list[str]:
    values = (*self._session.get_inputs(), *self._session.get_outputs())
    return [value.name for value in values]


def _mode(self: Any, name: str) -> Any:
    is_input = name == self._session.get_inputs()[0].name
    return real.TensorIOMode.INPUT if is_input else real.TensorIOMode.OUTPUT


def _extents(self: Any, name: str) -> tuple[int, ...]:
    for value in (*self._session.get_inputs(), *self._session.get_outputs()):
        if value.name == name:
            return tuple(n if isinstance(n, int) else -1 for n in value.shape)
    raise KeyError(name)


def _information(self: Any, format: Any) -> str:
    assert format == real.LayerInformationFormat.JSON
    model = onnx.ModelProto.FromString(STATE["engine"])
    layers = [
        {
            "Name": node.name,
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": node.input[0], "Format/Datatype": "Int8"}],
            "Weights": {"Type": "Int8", "Count": 1},
            "Metadata": f"[ONNX Layer: {node.name}]",
        }
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    return json.dumps({"Layers": layers, "Bindings": []})


Inspector = strict(real.EngineInspector, get_engine_information=_information)

Engine = strict(
    real.ICudaEngine,
    num_io_tensors=property(lambda self: len(_names(self))),
    get_tensor_name=lambda self, index: _names(self)[index],
    get_tensor_mode=_mode,
    get_tensor_shape=_extents,
    get_tensor_dtype=lambda self, name: real.DataType.FLOAT,
    get_tensor_profile_shape=lambda self, name, profile_index: STATE["profile"],
    create_execution_context=lambda self, strategy=None: _context(self),
    create_engine_inspector=lambda self: Inspector(),
    device_memory_size_v2=property(lambda self: 4096),
    **(
        {"get_engine_stat": lambda self, stat: {real.EngineStat.TOTAL_WEIGHTS_SIZE: 777}[stat]}
        if hasattr(real, "EngineStat")
        else {}
    ),
)


def deserialize(self: Any, serialized_engine: bytes) -> Any:
    engine = Engine()
    STATE["runs_on"] = vars(self).get("DLA_core")
    STATE["engine"] = bytes(serialized_engine)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    engine._session = onnxruntime.InferenceSession(runnable(bytes(serialized_engine)), options)
    return engine


def runnable(model: bytes) -> bytes:
    """What onnxruntime can run: a graph in bfloat16 by its twin."""
    graph = onnx.ModelProto.FromString(model)
    halves = (tensor.data_type == onnx.TensorProto.BFLOAT16 for tensor in graph.graph.initializer)
    return ir.to_proto(rounded(ir.from_proto(graph))).SerializeToString() if any(halves) else model


Runtime = strict(
    real.Runtime,
    __init__=lambda self, logger: None,
    deserialize_cuda_engine=deserialize,
)


class Driver:
    """The CUDA driver over host memory."""

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.captured: list[Any] = []
        self.capturing = False
        self.launched = 0

    def queue(self, work: Any) -> None:
        if self.capturing:
            self.captured.append(work)
        else:
            work()

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        self.captured, self.capturing = [], True
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        self.capturing, graph._obj.value = False, 1
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        executable._obj.value = 1
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        self.launched += 1
        for work in self.captured:
            work()
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = str(STATE["gpu"]).encode()
        return 0

    def cuDeviceGetAttribute(self, part: Any, attribute: int, device: Any) -> int:
        part._obj.value = {18: 1, 75: 8, 76: 7}[attribute]
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[address._obj.value] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        return 0 if self.blocks.pop(address.value, None) is not None else 1

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        return self.cuMemcpyHtoDAsync_v2(to, source, size, stream)

    def __getattr__(self, name: str) -> Any:
        known = {"cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"}
        known |= {"cuMemGetInfo_v2", "cuGraphDestroy", "cuGraphExecDestroy", "cuStreamDestroy_v2"}
        known |= {"cuEventCreate", "cuEventRecord", "cuEventDestroy_v2", "cuEventElapsedTime"}
        assert name in known | {"cuStreamCreate", "cuStreamSynchronize"}
        return lambda *arguments: 0


def refusal(work: Any) -> str:
    try:
        work()
    except WaveedgeError as error:
        return str(error)
    return ""


def main(folder: Path, whole: bool) -> dict[str, Any]:
    """Everything that a device does with a bundle, on the fake.

    What calls nothing of the bindings that the rest does not call is left out but for ``whole``:
    builds and races that are cut short, an export on the desk, a board that was set otherwise.
    """
    library = types.ModuleType("tensorrt")
    library.__dict__.update({name: getattr(real, name) for name in dir(real) if name[0] != "_"})
    library.__dict__.update(Builder=Builder, OnnxParser=Parser, Runtime=Runtime)
    library.__version__ = real.__version__  # type: ignore[attr-defined]
    library.__spec__ = ModuleSpec("tensorrt", None)  # torch looks for it
    sys.modules["tensorrt"] = library
    driver = Driver()
    cuda._driver = lambda: driver  # type: ignore[assignment]
    said: list[tuple[str, int, int]] = []
    settings = runtime.engine_builder.Settings(
        workspace_bytes=2**20, level=2, progress=lambda *step: said.append(step)
    )
    killed = killed_while_checking(folder, settings) if whole else None
    cut = interrupted(folder, settings) if whole else None
    built = build(folder, settings=settings)
    image = np.load(folder / "images.npy")[:1]
    session = runtime.Session(folder)
    found: dict[str, Any] = {
        "after_a_kill": killed,
        "hidden": [file.name for file in folder.glob(".*")],
        "after_a_cut": [cut, [one.reused for one in built]],
        "forms": {one.form: one.snr_db for one in built},
        "precisions": [read_engine(one.path)["precision"] for one in built],
        "manifest": dict(read_engine(built[0].path)),
        "strongly_typed": STATE["flags"]
        == 1 << int(real.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        "executed": built[0].to_dict()["executed"],
        "workspace": STATE["workspace"],
        "level": STATE["level"],
        "verbosity": STATE["verbosity"],
        "progress": said,
        "backend": session.backend,
        "same": bool(np.array_equal(session.run(image), as_written(folder / "model.onnx", image))),
        "cache_first": STATE["cache"].decode(),
    }
    (made,) = build(folder.with_name("free.trt"), forms=["published-float32"], settings=settings)
    found["free"] = read_engine(made.path)["profile"]
    found["profile"] = profile(settings)
    found["profile_of_4"] = profile(replace(settings, opt_batch=4))
    if whole:
        found["from_the_desk"] = exported(folder.with_name("desk.trt"))
    comparison = runtime.benchmark(folder, runs=1, warmup=0)
    found["baseline"] = Path(comparison.b.path).name
    found["on_gpu"] = [comparison.a.device is not None, comparison.a.peak_bytes]
    found["memory"] = comparison.to_dict()["a"]["memory"]
    found["graph"] = [comparison.a.cuda_graph.reason, driver.launched > 0]
    found["alone"] = asdict(
        measure_here(built[0].path, threads=1, shape=None, runs=1, provider="engine")
    )
    found["reused"] = [one.reused for one in build(folder)]
    build(folder, forms=["published-float16"], settings=settings, again=True)
    found["cache_then"] = STATE["cache"].decode()
    if whole:
        found["race_cut"] = [cut_race(folder), [one.reused for one in build(folder)]]
    laps = race(folder, runs=3, least_db=100)
    found["race"] = [lap.to_dict() for lap in laps]
    found["raced"] = Path(runtime.Session(folder).path).name
    if whole:
        found["set_otherwise"] = set_otherwise(folder)
    raced = runtime.benchmark(folder, runs=1, warmup=0, memory=False)
    found["raced_bits"] = raced.a.bits.executed
    found["too_much"] = refusal(lambda: race(folder, runs=1, least_db=500))
    found["dla"] = dla(folder, settings)
    found["bfloat16"] = bfloat16(folder, settings)
    STATE["gpu"] = "Thor"
    found["not_here"] = refusal(lambda: chosen_engine(open_bundle(folder)))
    found["other_gpu"] = refusal(lambda: runtime.Session(folder))
    STATE["gpu"] = "Orin"
    library.__version__ = "10.99"  # type: ignore[attr-defined]
    found["other_version"] = refusal(lambda: runtime.Session(folder))
    library.__version__ = "8.6.1"  # type: ignore[attr-defined]
    found["old"] = refusal(lambda: build(folder))
    library.__version__ = real.__version__  # type: ignore[attr-defined]
    (folder / "race.json").unlink()
    engine = built[0].path
    content = engine.read_bytes()
    engine.write_bytes(content + b"x")
    found["damaged"] = refusal(lambda: runtime.Session(folder))
    engine.write_bytes(content)
    STATE["off"] = 1.0
    found["wrong_numbers"] = refusal(lambda: build(folder, settings=settings, again=True))
    STATE["off"] = 0.0
    found["kept"] = engine.read_bytes() == content
    STATE["parses"] = False
    found["refused"] = refusal(lambda: build(folder, settings=settings, again=True))
    STATE["parses"] = True
    beside = engine.with_name("model.engine.json")
    manifest = beside.read_bytes()
    engine.write_bytes(b"of trtexec")
    found["replaced"] = refusal(lambda: build(folder, settings=settings))
    found["not_eaten"] = engine.read_bytes() == b"of trtexec"
    engine.unlink()
    beside.write_text('{"Layers": []}')
    found["foreign_json"] = refusal(lambda: build(folder, settings=settings))
    found["json_not_eaten"] = beside.read_text() == '{"Layers": []}'
    engine.write_bytes(content)
    beside.write_bytes(manifest)
    beside.unlink()
    found["no_manifest"] = refusal(lambda: runtime.Session(folder))
    found["foreign"] = refusal(lambda: build(folder, settings=settings))
    del session
    gc.collect()
    found["memory_left"] = len(driver.blocks)
    return found


def set_otherwise(folder: Path) -> list[str]:
    """What a session says where the board has another JetPack than when its engine was built."""
    engine = chosen_engine(open_bundle(folder))
    assert engine is not None
    beside = engine.with_name(f"{engine.name}.json")
    content = beside.read_text()
    beside.write_text(json.dumps({**json.loads(content), "jetpack": "6.1"}))
    here, conditions._settings = conditions._settings, lambda: {"power_mode": None, "jetpack": "7"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runtime.Session(folder)
    conditions._settings = here
    beside.write_text(content)
    return [str(warning.message) for warning in said]


def exported(folder: Path) -> list[int]:
    """Executed bits in the manifest of an export of floats on a desk that has TensorRT and a GPU.

    The fake writes no log, and its inspector says int8 of every convolution.
    """
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    bundle = waveedge.export(network, folder, target="trt", images=torch.rand(2, 3, 8, 8))
    return [layer["executed"]["activation_bits"] for layer in bundle.manifest["layers"]]


def killed_while_checking(folder: Path, settings: Any) -> list[Any]:
    """The signal that ended a build at its third engine, which was written and had no name yet.

    And what lies there then, with a name and without.
    """
    child = os.fork()
    if not child:
        checks = iter(range(3))

        def compare(*arguments: Any) -> Any:
            if next(checks) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return engine_check.compare(*arguments)

        build_module.compare = compare  # type: ignore[attr-defined]
        try:
            build(folder, settings=settings)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    named = sorted(file.name for file in folder.glob("[!.]*.engine*"))
    return [os.WTERMSIG(status), named, sum(1 for _ in folder.glob(".*"))]


def interrupted(folder: Path, settings: Any) -> list[str]:
    """What lies there after a build that was cut off at its third engine."""
    builds = iter(range(3))

    def progress(*_: Any) -> None:
        if next(builds) == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        build(folder, settings=replace(settings, progress=progress))
    return sorted(file.name for file in folder.glob("*.engine*"))


def cut_race(folder: Path) -> bool:
    """Whether anything of a race that was cut off in its third round lies there."""
    rounds = iter(range(3))

    def progress(*_: Any) -> None:
        if next(rounds) == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        race(folder, progress=progress)
    return any("race" in file.name for file in folder.iterdir())


def profile(settings: Any) -> Any:
    """The profile that is asked for where batch, height and width are free."""
    value = onnx.helper.make_tensor_value_info
    shape = ["n", 3, "h", "w"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "free",
        [value("x", onnx.TensorProto.FLOAT, shape)],
        [value("y", onnx.TensorProto.FLOAT, shape)],
    )
    model = onnx.helper.make_model(graph).SerializeToString()
    sizes = runtime.sizes.SizeRange((32, 48), (16, 16), (16, 16), (64, 64))
    runtime.engine_builder.build_engine(model, "tensorrt", sizes, settings)
    return STATE.pop("profile")


def bfloat16(folder: Path, settings: Any) -> dict[str, Any]:
    """What a device makes of a form that its onnxruntime cannot run, and a race among these."""
    form = ["published-bfloat16"]
    STATE["off"] = 0.3  # of outputs of about 1: more than bfloat16 explains
    found: dict[str, Any] = {
        "wrong": refusal(lambda: build(folder, forms=form, settings=settings, again=True))
    }
    STATE["off"] = 0.0
    with alone(folder, "bfloat16"):
        race(folder, runs=1, least_db=20)
        found["raced"] = Path(runtime.Session(folder).path).name
    return found


@contextmanager
def alone(folder: Path, text: str) -> Iterator[None]:
    """A bundle without the engines that have no such text in their names."""
    others = [file for file in folder.glob("*.engine") if text not in file.name]
    for file in others:
        file.rename(file.with_suffix(".away"))
    yield
    for file in others:
        file.with_suffix(".away").rename(file)


def dla(folder: Path, settings: Any) -> dict[str, Any]:
    """What building for a deep learning accelerator does, with none, one, and one that is picky."""
    wanted = replace(settings, dla_core=1)
    form = ["rewritten-float16"]
    found: dict[str, Any] = {"none": refusal(lambda: build(folder, settings=wanted))}
    STATE["dla"] = 1
    found["one"] = refusal(lambda: build(folder, settings=wanted))
    STATE["dla"] = 2
    (built,) = build(folder, forms=form, settings=wanted)
    found["built"] = built.to_dict()
    found["manifest"] = read_engine(built.path)["dla"]
    found["flag"] = STATE["flag"]
    backend = runtime.Session(built.path).backend
    found["session"] = [backend, STATE["runs_on"]]
    found["kept"] = [
        [one.path.name, one.reused, one.dla_core]
        for made in (wanted, settings)
        for one in build(folder, forms=form, settings=made)
    ]
    found["race"] = [lap.to_dict() for lap in race(folder, runs=1, least_db=0)]
    with alone(folder, ".dla1"):
        race(folder, runs=1, least_db=0)
        session = runtime.Session(folder)
        found["raced"] = [Path(session.path).name, session.backend, STATE["runs_on"]]
        found["bits"] = runtime.benchmark(folder, runs=1, warmup=0, memory=False).a.bits.executed
        (folder / "race.json").unlink()
        found["of_no_form"] = Path(runtime.Session(folder).path).name
    STATE["takes"] = "Softmax"
    found["nothing"] = refusal(lambda: build(folder, forms=form, settings=wanted, again=True))
    found["replaceable"] = built.path.name in bundle_files(folder / "manifest.json")
    for file in folder.glob("*.dla1.engine*"):
        file.unlink()
    race(folder, runs=3, least_db=100)
    return found


def as_written(model: Path, image: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(model), options)
    return session.run(None, {session.get_inputs()[0].name: image})[0]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), "whole" in sys.argv[2:])))
