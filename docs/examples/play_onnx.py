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


def joined(values, space, name="action"):
    """Return the action of which `values` are the parts, by the names of the policy's outputs."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: joined(values, part, f"{name}.{key}") for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(joined(values, part, f"{name}.{index}") for index, part in enumerate(space.spaces))
    return values[name]


def mask_of(observation, info, env):
    """Return the allowed actions, for a policy that was trained with masks: from the places where ppolab looks."""
    in_info = [name for name in ("action_mask", "legal_action_mask") if name in info]
    if isinstance(observation, dict) and "action_mask" in observation:
        mask = observation["action_mask"]
    else:
        mask = info[in_info[0]] if in_info else env.get_wrapper_attr("action_masks")()
    of_components = mask if isinstance(mask, tuple | list) else [mask]
    return np.concatenate([np.ravel(part) for part in of_components]) != 0


def act(session, observation, info, state, env):
    """Return the action for one observation, and the next state; a policy takes a batch, here of one."""
    values = parts(observation) | {"state": state}
    if "action_mask" in [wanted.name for wanted in session.get_inputs()]:
        values["action_mask"] = mask_of(observation, info, env)
    inputs = {}
    for wanted in session.get_inputs():
        kind = wanted.type.removeprefix("tensor(").removesuffix(")")
        inputs[wanted.name] = np.asarray(values[wanted.name], dtype=TYPES.get(kind, kind))[None]
    answers = {output.name: session.run([output.name], inputs)[0][0] for output in session.get_outputs()}
    return joined(answers, env.action_space), answers.get("next_state")


def main(path, episodes):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    env = gymnasium.make(facts["environment"], **json.loads(facts["environment_kwargs"]))
    for seed in range(episodes):
        observation, info = env.reset(seed=seed)
        total, ended = 0.0, False
        state = np.zeros(json.loads(facts["state_shape"])) if "state_shape" in facts else None  # a policy with memory
        while not ended:
            action, state = act(session, observation, info, state, env)
            observation, reward, terminated, truncated, info = env.step(action)
            total, ended = total + float(reward), terminated or truncated
        print(f"seed {seed}: return {total}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
