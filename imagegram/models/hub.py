"""HubNetwork: a network that is a folder, or a page, of the Hugging Face Hub.

    network.save_pretrained("FOLDER")
    network = TiTok.from_pretrained("FOLDER")  # or OWNER/NAME, a page of the hub
    network.push_to_hub("OWNER/NAME")

    config.json         family and sizes of the network
    model.safetensors   its weights, with the sizes in the header, as a training writes them
    README.md           what it is, and how it is read

``python -m imagegram.tools.export part=tokenizer`` makes such a folder of what a run has trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from torch import nn

from imagegram.errors import ConfigError
from imagegram.models.checkpoints import read_tensors, require_shapes, shapes_of, write_weights
from imagegram.store.weights import MODEL

CONFIG: Final = "config.json"
#: How messages call what is read.
_SETTING: Final = "from_pretrained"

CARD: Final = """\
---
{{ card_data }}
---

# {{ title | default("A network of imagegram", true) }}

{% for line in lines | default([], true) -%}
* {{ line }}
{% endfor -%}
* Family and sizes: `config.json`. Weights: `model.safetensors`; nothing here is a pickle.

{% if usage | default("", true) -%}
```
{{ usage }}
```
{% endif -%}
"""


class HubNetwork(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="imagegram",
    model_card_template=CARD,
):
    """A network that is built from its sizes, saved with them, and found by them.

    A subclass takes its sizes as keyword arguments, which JSON can hold.
    """

    #: Name of the family, in ``config.json``.
    FAMILY: ClassVar[str]

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments that the network was built from."""
        built_from: Any = self._hub_mixin_config
        return dict(built_from)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the weights, and family and sizes; called by ``save_pretrained``."""
        header = {self.FAMILY: json.dumps(self.sizes)}
        write_weights(save_directory / MODEL, self.state_dict(), header)
        config = {"family": self.FAMILY, **self.sizes}
        (save_directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: dict[str, Any] | None = None,
        map_location: str = "cpu",
        strict: bool = True,
        **others: Any,
    ) -> Self:
        """Build the network of a folder or a page; called by ``from_pretrained``.

        Every weight has to fit, and none may be left over: ``strict`` has no other value.

        Raises:
            ConfigError: for a network of another family, or weights that do not fit.
        """
        how = {key: others[key] for key in _DOWNLOAD if key in others}
        if config is None or config.get("family") != cls.FAMILY or not strict:
            found = "no config.json" if config is None else f"family {config.get('family')!r}"
            raise ConfigError(
                f"{_SETTING}={model_id}: {cls.__name__} reads family {cls.FAMILY!r}, all of its "
                f"weights, but the folder has {found}; take the class of that family"
            )
        folder = Path(model_id)
        path = folder / MODEL if folder.is_dir() else hf_hub_download(model_id, MODEL, **how)
        tensors = read_tensors(Path(path), setting=_SETTING)
        # Versions of the hub's client add arguments of their own.
        sizes = {key: others[key] for key in config if key in others and key != "family"}
        try:
            with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
                network = cls(**sizes)
        except TypeError as error:
            raise ConfigError(
                f"{_SETTING}={model_id}: {CONFIG} does not have the sizes of {cls.__name__} "
                f"({error}); export the network again"
            ) from error
        expected = shapes_of(network.state_dict())
        require_shapes(shapes_of(tensors), expected, setting=f"{_SETTING}={model_id}")
        network.load_state_dict(tensors)
        return network.eval().to(map_location)


#: What the hub's client is told, of the arguments of ``from_pretrained``.
_DOWNLOAD: Final = ("revision", "cache_dir", "force_download", "token", "local_files_only")
