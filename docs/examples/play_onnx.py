"""Play an exported policy in Gymnasium: `python play_onnx.py policy.onnx 5` plays five episodes, of seeds 0 to 4.

It needs gymnasium, numpy and onnxruntime, and neither ppolab nor torch.
"""

import json
import sys

import gymnasium
import numpy as np
import onnxruntime

TYPES = {"float": "float32", "double": "float64"}


def parts(observation, name="observation"):
    """Return the arrays in an observation by the names of the policy's inputs."""
    if isinstance(observation, dict):
        items = observation.items()
    elif isinstance(observation, tuple):
        items = enumerate(observation)
    else:
        return {name: observation}
    return {key: value for inner, part in items for key, value in parts(part, f"{name}.{inner}").items()}


def act(session, observation):
    """Return the action for one observation; a policy takes a batch, here of one."""
    values = parts(observation)
    inputs = {}
    for wanted in session.get_inputs():
        kind = wanted.type.removeprefix("tensor(").removesuffix(")")
        inputs[wanted.name] = np.asarray(values[wanted.name], dtype=TYPES.get(kind, kind))[None]
    return session.run(["action"], inputs)[0][0]


def main(path, episodes):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    env = gymnasium.make(facts["environment"], **json.loads(facts["environment_kwargs"]))
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(act(session, observation))
            total, ended = total + float(reward), terminated or truncated
        print(f"seed {seed}: return {total}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
